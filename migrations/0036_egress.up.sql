-- Which start of a workspace may speak to the proxy, and which hosts its list refused.
-- Locks: none on other tables but milliseconds on workspaces for the foreign keys.

-- A row for each workspace that was last started behind the proxy.
CREATE TABLE workspace_proxied (
    workspace_id uuid PRIMARY KEY REFERENCES workspaces (id) ON DELETE CASCADE,
    -- Whose password the proxy takes.
    operation_id uuid NOT NULL
);

-- The last hosts of each workspace that were refused; 100 of each stay.
CREATE TABLE workspace_refused_hosts (
    workspace_id uuid NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    host         text NOT NULL CHECK (octet_length(host) <= 253),
    port         integer NOT NULL CHECK (port BETWEEN 1 AND 65535),
    reason       text NOT NULL,
    attempts     integer NOT NULL,
    first_at     timestamptz NOT NULL,
    last_at      timestamptz NOT NULL,
    PRIMARY KEY (workspace_id, host, port)
);
