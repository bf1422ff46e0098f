-- Namespaces of purged workspaces that a memory plugin has yet to delete.
-- Locks: a new table only. Time: milliseconds.

CREATE TABLE memory_cleanup_outbox (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- As the plugin knows it.
    namespace  text NOT NULL,
    attempts   integer NOT NULL DEFAULT 0,
    next_at    timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX memory_cleanup_outbox_due ON memory_cleanup_outbox (next_at);
