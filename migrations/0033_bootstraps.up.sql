-- Tokens with which machines fetch, once each, what their workspaces are started with.
-- Locks: a new table only. Time: milliseconds.

CREATE TABLE workspace_bootstraps (
    -- SHA-256 of the token.
    token_hash   bytea PRIMARY KEY,
    workspace_id uuid NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    -- The start that the token is for. Each try of a start has a token of its own.
    operation_id uuid NOT NULL,
    expires_at   timestamptz NOT NULL,
    used_at      timestamptz
);
CREATE INDEX workspace_bootstraps_of_workspace ON workspace_bootstraps (workspace_id);
