-- Files below /configs that workspaces are first started with.
-- Locks: new tables only. Time: milliseconds.

CREATE TABLE start_files (
    workspace_id uuid NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    -- Relative to /configs.
    path         text NOT NULL,
    content      bytea NOT NULL,
    PRIMARY KEY (workspace_id, path)
);

-- All files of one workspace together.
CREATE TABLE start_file_sets (
    workspace_id    uuid PRIMARY KEY REFERENCES workspaces (id) ON DELETE CASCADE,
    organization_id uuid NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    bytes           bigint NOT NULL,
    -- The backend whose volume has them; '' before a start has succeeded with these files.
    delivered_to    text NOT NULL DEFAULT '',
    updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX start_file_sets_of_organization ON start_file_sets (organization_id) INCLUDE (bytes);
