-- Locks: ACCESS EXCLUSIVE on delegations, without a rewrite. Time: milliseconds.

ALTER TABLE delegations DROP COLUMN attempt_due;
