-- Approvals that agents ask people for.
-- Locks: a new table only. Time: milliseconds.

CREATE TABLE approval_requests (
    id              uuid PRIMARY KEY,
    organization_id uuid NOT NULL,
    workspace_id    uuid NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    task_id         text NOT NULL DEFAULT '',
    action          text NOT NULL,
    reason          text NOT NULL DEFAULT '',
    context         jsonb,
    status          text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'approved', 'denied')),
    -- Who decided; `timeout` where nobody did in time.
    decided_by      text NOT NULL DEFAULT '',
    decided_at      timestamptz,
    expires_at      timestamptz NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    -- When a worker tells the agent of the decision; NULL while nobody has decided, and when it is told.
    tell_at         timestamptz,
    CHECK ((status = 'pending') = (decided_at IS NULL))
);
CREATE INDEX approval_requests_of_workspace ON approval_requests (workspace_id, created_at DESC, id DESC);
CREATE INDEX approval_requests_pending ON approval_requests (organization_id, created_at DESC, id DESC)
    WHERE status = 'pending';
CREATE INDEX approval_requests_expiring ON approval_requests (expires_at) WHERE status = 'pending';
CREATE INDEX approval_requests_untold ON approval_requests (tell_at) WHERE tell_at IS NOT NULL;
CREATE INDEX approval_requests_decided ON approval_requests (decided_at) WHERE decided_at IS NOT NULL;
