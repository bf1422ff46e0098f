-- Secrets of workspaces, of organisations, and of the installation; sealed before they are stored.
-- Locks: a new table only. Time: milliseconds.

CREATE TABLE secrets (
    -- Whose: the workspace, else the organisation, else NULL for the whole installation.
    owner_id        uuid NOT NULL GENERATED ALWAYS AS (
        coalesce(workspace_id, organization_id, '00000000-0000-0000-0000-000000000000')
    ) STORED,
    organization_id uuid REFERENCES organizations (id) ON DELETE CASCADE,
    workspace_id    uuid REFERENCES workspaces (id) ON DELETE CASCADE,
    key             text NOT NULL,
    -- AES-256-GCM: 12 bytes of nonce, ciphertext, tag. Bound to owner and key.
    sealed          bytea NOT NULL,
    -- Begins the SHA-256 of the encryption key that opens it.
    key_id          bytea NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (owner_id, key),
    CHECK (workspace_id IS NULL OR organization_id IS NOT NULL)
);
CREATE INDEX secrets_of_workspace ON secrets (workspace_id) WHERE workspace_id IS NOT NULL;
CREATE INDEX secrets_of_organization ON secrets (organization_id) WHERE organization_id IS NOT NULL;
CREATE INDEX secrets_by_encryption_key ON secrets (key_id);
