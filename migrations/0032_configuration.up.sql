-- Configuration of workspaces, assigned agents, use of tokens, and since when a reported spend counts.
-- Locks: workspaces exclusively for milliseconds (no row is rewritten); new tables. The previous version works
-- on this schema.

ALTER TABLE workspaces
    -- When `monthly_spend` was last reported: it counts for that month. NULL counts for every month.
    ADD COLUMN spend_reported_at timestamptz;

-- What the canvas and its users keep about a workspace.
CREATE TABLE workspace_config (
    workspace_id uuid PRIMARY KEY REFERENCES workspaces (id) ON DELETE CASCADE,
    data         jsonb NOT NULL CHECK (jsonb_typeof(data) = 'object'),
    updated_at   timestamptz NOT NULL DEFAULT now()
);

-- Assignments of agents; one of a workspace is active, the others have ended.
CREATE TABLE agents (
    id             uuid PRIMARY KEY,
    workspace_id   uuid NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    model          text NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    removed_at     timestamptz,
    removal_reason text NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX agents_active ON agents (workspace_id) WHERE removed_at IS NULL;
CREATE INDEX agents_ended ON agents (workspace_id, removed_at) WHERE removed_at IS NOT NULL;

-- Tokens by workspace and day of UTC, as answers of agents tell them.
CREATE TABLE workspace_token_usage (
    workspace_id  uuid NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    period_start  date NOT NULL,
    input_tokens  bigint NOT NULL,
    output_tokens bigint NOT NULL,
    call_count    integer NOT NULL,
    PRIMARY KEY (workspace_id, period_start)
);

-- Shared secrets that have changed, until the agents that inherit them are restarted.
CREATE TABLE secret_rollouts (
    owner_id        uuid NOT NULL,
    key             text NOT NULL,
    -- NULL for all organisations.
    organization_id uuid REFERENCES organizations (id) ON DELETE CASCADE,
    -- The last workspace that was looked at.
    after           uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    begun_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (owner_id, key)
);
