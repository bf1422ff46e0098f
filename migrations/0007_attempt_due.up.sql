-- When the next attempt of a delegation is handed over, so that a failure told twice counts once.
-- Locks: ACCESS EXCLUSIVE on delegations, without a rewrite. Time: milliseconds.

ALTER TABLE delegations
    -- NULL during the first attempt.
    ADD COLUMN attempt_due timestamptz;
