-- Messages for agents that are called by URL: the outbox of delegations, and the queue of the busy.
-- Locks: a new table only. Time: milliseconds.

CREATE TABLE a2a_queue (
    id              uuid PRIMARY KEY,
    workspace_id    uuid NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    -- NULL for a human, and for the platform itself.
    caller_id       uuid,
    -- 100 critical, 50 task, 10 information.
    priority        smallint NOT NULL DEFAULT 50 CHECK (priority BETWEEN 0 AND 100),
    body            jsonb NOT NULL,
    method          text NOT NULL,
    -- The A2A messageId.
    idempotency_key text,
    delegation_id   text,
    status          text NOT NULL DEFAULT 'queued' CHECK (
        status IN ('queued', 'dispatched', 'completed', 'dropped', 'failed')
    ),
    -- Answers that were no success. What the network does is not the message's fault.
    attempts        integer NOT NULL DEFAULT 0,
    -- How often in a row the agent could not be reached.
    misses          integer NOT NULL DEFAULT 0,
    -- Whether it waits for the agent to be ready, as all of its queue must, and not for itself.
    waiting         boolean NOT NULL DEFAULT false,
    last_error      text,
    lease_owner     text,
    lease_until     timestamptz,
    enqueued_at     timestamptz NOT NULL DEFAULT now(),
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    settling_since  timestamptz,
    dispatched_at   timestamptz,
    completed_at    timestamptz,
    expires_at      timestamptz NOT NULL DEFAULT now() + interval '24 hours',
    response_body   jsonb,
    -- Whoever dies with a message in hand lets go of it.
    CHECK (status <> 'dispatched' OR lease_owner IS NOT NULL AND lease_until IS NOT NULL)
) WITH (fillfactor = 80);

CREATE INDEX a2a_queue_order ON a2a_queue (workspace_id, priority DESC, enqueued_at, id)
    WHERE status = 'queued';
CREATE INDEX a2a_queue_waiting ON a2a_queue (workspace_id, next_attempt_at)
    WHERE status = 'queued' AND waiting;
CREATE INDEX a2a_queue_in_flight ON a2a_queue (workspace_id) WHERE status = 'dispatched';
CREATE INDEX a2a_queue_expires ON a2a_queue (expires_at) WHERE status = 'queued';
CREATE INDEX a2a_queue_ended ON a2a_queue (completed_at)
    WHERE status IN ('completed', 'dropped', 'failed');
-- A sender's repeat finds what waits already. Two senders may choose the same id; a delegation is
-- told from another by the ledger.
CREATE UNIQUE INDEX a2a_queue_live ON a2a_queue (workspace_id, idempotency_key, caller_id)
    NULLS NOT DISTINCT
    WHERE idempotency_key IS NOT NULL AND delegation_id IS NULL
      AND status IN ('queued', 'dispatched');
