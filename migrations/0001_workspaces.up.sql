-- Organisations, the tree of workspaces, and the tokens of all parties.
-- Locks: new tables only. Time: milliseconds.

CREATE TYPE workspace_status AS ENUM (
    'provisioning', 'awaiting_agent', 'online', 'degraded', 'offline',
    'hibernating', 'hibernated', 'paused', 'failed', 'removed'
);

CREATE TABLE organizations (
    id         uuid PRIMARY KEY,
    slug       text NOT NULL UNIQUE,
    name       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

INSERT INTO organizations (id, slug, name)
VALUES ('00000000-0000-7000-8000-000000000001', 'default', 'Default');

CREATE TABLE workspaces (
    id                      uuid PRIMARY KEY,
    organization_id         uuid NOT NULL REFERENCES organizations (id),
    parent_id               uuid,
    name                    text NOT NULL,
    role                    text,
    tier                    integer NOT NULL,
    status                  workspace_status NOT NULL DEFAULT 'provisioning',
    runtime                 text NOT NULL DEFAULT 'langgraph',
    agent_card              jsonb,
    url                     text NOT NULL DEFAULT '',
    -- NULL is what old installations hold; readers treat it as its own case.
    delivery_mode           text CHECK (delivery_mode IN ('push', 'poll')),
    last_heartbeat_at       timestamptz,
    last_outbound_at        timestamptz,
    last_error_rate         double precision NOT NULL DEFAULT 0,
    last_sample_error       text,
    active_tasks            integer NOT NULL DEFAULT 0,
    max_concurrent_tasks    integer NOT NULL DEFAULT 1 CHECK (max_concurrent_tasks >= 1),
    uptime_seconds          integer NOT NULL DEFAULT 0,
    current_task            text NOT NULL DEFAULT '',
    workspace_dir           text,
    workspace_access        text NOT NULL DEFAULT 'none'
                            CHECK (workspace_access IN ('none', 'read_only', 'read_write')),
    budget_limit            bigint,
    monthly_spend           bigint NOT NULL DEFAULT 0,
    platform_inbound_secret text,
    created_at              timestamptz NOT NULL DEFAULT now(),
    updated_at              timestamptz NOT NULL DEFAULT now(),
    UNIQUE (id, organization_id),
    -- A parent is of the same organisation, whatever the code says.
    FOREIGN KEY (parent_id, organization_id) REFERENCES workspaces (id, organization_id),
    CHECK (parent_id <> id),
    -- A failure always has a reason.
    CHECK (status <> 'failed' OR coalesce(last_sample_error, '') <> '')
)
-- Heartbeats rewrite rows without touching an index: leave them room on the page.
WITH (fillfactor = 60);

CREATE UNIQUE INDEX workspaces_live_name ON workspaces (
    organization_id, coalesce(parent_id, '00000000-0000-0000-0000-000000000000'), name
) WHERE status <> 'removed';
CREATE INDEX workspaces_parent ON workspaces (parent_id);
CREATE INDEX workspaces_of_organization ON workspaces (organization_id, created_at, id)
    WHERE status <> 'removed';
CREATE INDEX workspaces_created ON workspaces (created_at, id) WHERE status <> 'removed';
CREATE INDEX workspaces_watched ON workspaces (id) WHERE status IN ('online', 'degraded');

CREATE TABLE canvas_layouts (
    workspace_id uuid PRIMARY KEY REFERENCES workspaces (id) ON DELETE CASCADE,
    x            double precision NOT NULL DEFAULT 0,
    y            double precision NOT NULL DEFAULT 0,
    collapsed    boolean NOT NULL DEFAULT false
);

CREATE TABLE workspace_auth_tokens (
    id           uuid PRIMARY KEY,
    workspace_id uuid NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    token_hash   bytea NOT NULL UNIQUE,
    prefix       text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    revoked_at   timestamptz
);
CREATE INDEX workspace_auth_tokens_live ON workspace_auth_tokens (workspace_id, created_at)
    WHERE revoked_at IS NULL;

CREATE TABLE org_api_tokens (
    id              uuid PRIMARY KEY,
    organization_id uuid NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    token_hash      bytea NOT NULL UNIQUE,
    prefix          text NOT NULL,
    name            text NOT NULL DEFAULT '',
    created_by      text NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    last_used_at    timestamptz,
    revoked_at      timestamptz
);
CREATE INDEX org_api_tokens_live ON org_api_tokens (organization_id, created_at)
    WHERE revoked_at IS NULL;

-- The operator's token that the first start mints. ADMIN_TOKEN in the environment wins over it.
CREATE TABLE operator_tokens (
    token_hash bytea PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now()
);
