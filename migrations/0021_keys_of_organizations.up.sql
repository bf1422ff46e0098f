-- An idempotency key belongs to its caller in one organisation: a workspace whose id was another
-- organisation's before it was purged neither finds nor is refused that one's keys.
-- Locks: writes to delegations wait while the index is built, reads too for milliseconds after
-- that. About 1 s for a million rows that have a key.

CREATE UNIQUE INDEX delegations_key
    ON delegations (caller_id, idempotency_key, organization_id)
    WHERE idempotency_key IS NOT NULL;
DROP INDEX idx_delegations_idempotency;
