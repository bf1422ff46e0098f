-- What agents printed last, kept when their workloads are removed: at most 256 KiB of a workspace.
-- Locks: a new table only; its foreign key locks `workspaces` for milliseconds. Time: milliseconds.

CREATE TABLE workspace_outputs (
    workspace_id uuid PRIMARY KEY REFERENCES workspaces (id) ON DELETE CASCADE,
    -- Each line with its place, 8 bytes, and its length, 4 bytes, before it.
    lines        bytea NOT NULL,
    -- Of the last line: nanoseconds since 1970 on Docker.
    place        bigint NOT NULL,
    kept_at      timestamptz NOT NULL DEFAULT now()
);
