-- The delegation ledger, the activity record and the inbox.
-- Locks: new tables only. Time: milliseconds.

CREATE TABLE delegations (
    delegation_id   text PRIMARY KEY CHECK (delegation_id <> ''),
    -- No foreign keys: history outlives workspaces.
    caller_id       uuid NOT NULL,
    callee_id       uuid NOT NULL,
    organization_id uuid NOT NULL,
    task_preview    text NOT NULL,
    status          text NOT NULL DEFAULT 'queued' CHECK (
        status IN ('queued', 'dispatched', 'in_progress', 'completed', 'failed', 'stuck')
    ),
    failure_reason  text CHECK (
        failure_reason IN ('cancelled', 'deadline', 'agent_error', 'unreachable', 'refused',
                           'poisoned', 'exhausted')
    ),
    last_heartbeat  timestamptz,
    deadline        timestamptz NOT NULL DEFAULT now() + interval '6 hours',
    result_preview  text,
    result          text,
    truncated       boolean NOT NULL DEFAULT false,
    error_detail    text,
    retry_count     integer NOT NULL DEFAULT 0,
    idempotency_key text,
    -- Tells a retry from another request that reuses the key.
    request_hash    bytea,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 80);

CREATE UNIQUE INDEX idx_delegations_idempotency ON delegations (caller_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX idx_delegations_caller_created ON delegations (caller_id, created_at DESC, delegation_id DESC);
CREATE INDEX idx_delegations_callee_created ON delegations (callee_id, created_at DESC, delegation_id DESC);
CREATE INDEX idx_delegations_org_created ON delegations (organization_id, created_at DESC);
CREATE INDEX idx_delegations_created ON delegations (created_at DESC);
CREATE INDEX idx_delegations_inflight_heartbeat ON delegations (last_heartbeat NULLS FIRST)
    WHERE status IN ('queued', 'dispatched', 'in_progress');
CREATE INDEX idx_delegations_inflight_deadline ON delegations (deadline)
    WHERE status IN ('queued', 'dispatched', 'in_progress');

CREATE TABLE activity_logs (
    id            uuid PRIMARY KEY,
    -- No foreign key: the hottest insert of the system; a purge deletes by workspace.
    workspace_id  uuid NOT NULL,
    activity_type text NOT NULL,
    source_id     uuid,
    target_id     uuid,
    method        text,
    summary       text,
    request_body  jsonb,
    response_body jsonb,
    tool_trace    jsonb,
    duration_ms   integer,
    status        text NOT NULL DEFAULT 'ok',
    error_detail  text,
    -- Position in the workspace's record: without holes, in commit order. Cursors live on it.
    record_seq    bigint NOT NULL,
    -- Number of the inbox item that this row records.
    inbox_seq     bigint,
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idx_activity_ws_type_seq ON activity_logs (workspace_id, activity_type, record_seq);
CREATE INDEX idx_activity_ws_time ON activity_logs (workspace_id, created_at, record_seq);
-- Rows arrive in time order, so a block range index is enough for retention.
CREATE INDEX idx_activity_created_at ON activity_logs USING brin (created_at);
CREATE INDEX idx_activity_ws_source ON activity_logs (workspace_id, source_id)
    WHERE source_id IS NOT NULL;
CREATE INDEX idx_activity_ws_target ON activity_logs (workspace_id, target_id)
    WHERE target_id IS NOT NULL;

-- One row per workspace: the counters of its record and inbox, and the inbox's one consumer. Every
-- new row goes through this row's lock, so the sequences have no holes and appear in commit order.
CREATE TABLE inbox_heads (
    workspace_id   uuid PRIMARY KEY REFERENCES workspaces (id) ON DELETE CASCADE,
    generation     uuid NOT NULL DEFAULT gen_random_uuid(),
    record_seq     bigint NOT NULL DEFAULT 0,
    last_seq       bigint NOT NULL DEFAULT 0 CHECK (last_seq < 4294967296),
    acked_seq      bigint NOT NULL DEFAULT 0,
    oldest_seq     bigint NOT NULL DEFAULT 1,
    -- Running totals of body bytes: appended so far, and up to `acked_seq`.
    bytes          bigint NOT NULL DEFAULT 0,
    acked_bytes    bigint NOT NULL DEFAULT 0,
    -- The consumer. A holder that left in good order is NULL; one whose server died stays.
    lease_holder   text,
    lease_epoch    bigint NOT NULL DEFAULT 0,
    lease_until    timestamptz,
    lease_since    timestamptz,
    lease_window   integer NOT NULL DEFAULT 0,
    lease_after    bigint NOT NULL DEFAULT 0,
    -- What the last session left: the items it had sent and got no answer for, and whether the
    -- client is to blame.
    sent_seqs      bigint[] NOT NULL DEFAULT '{}',
    lost_by_client boolean NOT NULL DEFAULT false,
    CHECK (acked_seq <= last_seq)
) WITH (fillfactor = 60);

CREATE TABLE inbox_items (
    workspace_id  uuid NOT NULL,
    seq           bigint NOT NULL,
    message_id    text NOT NULL,
    activity_id   uuid NOT NULL,
    method        text NOT NULL,
    source_id     uuid,
    delegation_id text,
    late          boolean NOT NULL DEFAULT false,
    bytes         integer NOT NULL,
    -- Running total of body bytes up to and including this item.
    bytes_through bigint NOT NULL,
    -- Deliveries that ended without an ack, and those of them that count towards poison: a nack,
    -- or a client that was lost. A server that restarts is not the item's fault.
    deliveries    integer NOT NULL DEFAULT 0,
    failures      integer NOT NULL DEFAULT 0,
    not_before    timestamptz,
    done_at       timestamptz,
    outcome       text CHECK (outcome IN ('done', 'poison', 'expired', 'replayed', 'dropped')),
    reason        text,
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz,
    PRIMARY KEY (workspace_id, seq),
    -- A sender's retry is known by its message id. Two senders may choose the same one.
    UNIQUE NULLS NOT DISTINCT (workspace_id, message_id, source_id)
) WITH (fillfactor = 90);
CREATE INDEX inbox_items_activity ON inbox_items (activity_id);
CREATE INDEX inbox_items_given_back ON inbox_items (workspace_id, not_before)
    WHERE done_at IS NULL AND not_before IS NOT NULL;
CREATE INDEX inbox_items_created ON inbox_items (created_at);
