-- Where two organisations have used one key with one caller's id, the newest delegation keeps the key.
-- Locks: writes to delegations wait while the index is built. About 1 s for a million rows that
-- have a key.

UPDATE delegations d SET idempotency_key = NULL
FROM (
    SELECT delegation_id, organization_id,
           row_number() OVER (PARTITION BY caller_id, idempotency_key
                              ORDER BY created_at DESC, delegation_id DESC) AS place
    FROM delegations WHERE idempotency_key IS NOT NULL
) k
WHERE k.place > 1 AND d.delegation_id = k.delegation_id AND d.organization_id = k.organization_id;
CREATE UNIQUE INDEX idx_delegations_idempotency ON delegations (caller_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
DROP INDEX delegations_key;
