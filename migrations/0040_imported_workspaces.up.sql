-- What imports of templates have created, so that a later import can tell what the template says now.
-- Locks: a new table only. Time: milliseconds.

CREATE TABLE imported_workspaces (
    workspace_id uuid PRIMARY KEY REFERENCES workspaces (id) ON DELETE CASCADE,
    template     text NOT NULL,
    -- A fingerprint of each part of the template's node, by name.
    parts        jsonb NOT NULL,
    -- Memories that are still to be stored: pairs of content and scope. NULL when all are.
    memories     jsonb,
    imported_at  timestamptz NOT NULL DEFAULT now()
);
