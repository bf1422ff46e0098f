-- Sleeping workspaces, and what a restarted agent is told.
-- Locks: workspaces exclusively for milliseconds (no row is rewritten), then against writes while a small
-- index is built. The previous version works on this schema.

ALTER TABLE workspaces
    -- Since when the workspace hibernates, or is about to: what arrives later wakes it.
    ADD COLUMN asleep_since    timestamptz,
    -- Of the last restart, until the agent that it started is told.
    ADD COLUMN restart_context jsonb;

CREATE INDEX workspaces_asleep ON workspaces (id) WHERE status IN ('hibernating', 'hibernated');

-- Sweeps that ask an engine: whichever worker takes the turn does it, so that more workers ask no more often.
CREATE TABLE sweep_turns (
    name     text PRIMARY KEY,
    taken_at timestamptz NOT NULL
);
