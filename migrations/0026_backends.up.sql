-- Where workspaces run, and the durable operations that start and stop them.
-- Locks: workspaces exclusively for milliseconds (no row is rewritten), then against writes while three
-- small indexes are built: 0.1 s for each 100,000 rows. The previous version works on this schema.

ALTER TABLE workspaces
    ADD COLUMN template                  text,
    ADD COLUMN model                     text,
    -- The backend that runs the workspace, and that backend's id of the workload; '' before a first start.
    ADD COLUMN backend                   text NOT NULL DEFAULT '',
    ADD COLUMN resource_id               text NOT NULL DEFAULT '',
    ADD COLUMN runtime_image_digest      text,
    ADD COLUMN egress                    jsonb,
    ADD COLUMN hibernation_idle_minutes  integer,
    -- The last task, message or terminal; a heartbeat is none.
    ADD COLUMN last_active_at            timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN provisioning_started_at   timestamptz,
    ADD COLUMN provision_timeout_seconds integer CHECK (provision_timeout_seconds > 0),
    ADD COLUMN source_bundle_id          text;

CREATE INDEX workspaces_hibernation ON workspaces (id) WHERE hibernation_idle_minutes > 0;
CREATE INDEX workspaces_image ON workspaces (runtime_image_digest) WHERE runtime_image_digest IS NOT NULL;
CREATE INDEX workspaces_started ON workspaces (id) WHERE backend <> '';

-- A start or a stop, committed before its backend is called. Whoever finds one whose lease has lapsed
-- finishes it. No foreign key: operations outlive a purge, which itself needs one to remove the workload.
CREATE TABLE workspace_operations (
    id               uuid PRIMARY KEY,
    workspace_id     uuid NOT NULL,
    organization_id  uuid NOT NULL,
    kind             text NOT NULL CHECK (kind IN ('start', 'restart', 'stop', 'remove')),
    -- Who asked: `create`, `delete`, `restart`, `reconcile`, and so on. For logs and people.
    source           text NOT NULL,
    -- '' until a runner chooses.
    backend          text NOT NULL DEFAULT '',
    attempt          integer NOT NULL DEFAULT 0,
    state            text NOT NULL DEFAULT 'pending'
                     CHECK (state IN ('pending', 'running', 'succeeded', 'failed', 'cancelled')),
    cancel_requested boolean NOT NULL DEFAULT false,
    resource_id      text NOT NULL DEFAULT '',
    -- A stable name, and a sentence for people: why it failed or was cancelled.
    reason           text NOT NULL DEFAULT '',
    message          text NOT NULL DEFAULT '',
    options          jsonb NOT NULL DEFAULT '{}',
    owner            text NOT NULL DEFAULT '',
    lease_until      timestamptz,
    -- A pending operation waits until then.
    not_before       timestamptz NOT NULL DEFAULT now(),
    created_at       timestamptz NOT NULL DEFAULT now(),
    started_at       timestamptz,
    ended_at         timestamptz,
    CHECK ((state = 'running') = (lease_until IS NOT NULL)),
    CHECK ((state IN ('succeeded', 'failed', 'cancelled')) = (ended_at IS NOT NULL))
)
-- Renewed leases rewrite rows without touching an index: leave them room on the page.
WITH (fillfactor = 70);

-- The lock of a workspace: one operation runs, and at most one more follows it.
CREATE UNIQUE INDEX workspace_operations_running ON workspace_operations (workspace_id)
    WHERE state = 'running';
CREATE UNIQUE INDEX workspace_operations_pending ON workspace_operations (workspace_id)
    WHERE state = 'pending';
CREATE INDEX workspace_operations_due ON workspace_operations (created_at, id) WHERE state = 'pending';
CREATE INDEX workspace_operations_history ON workspace_operations (workspace_id, created_at DESC, id DESC);
CREATE INDEX workspace_operations_ended ON workspace_operations (ended_at) WHERE ended_at IS NOT NULL;
