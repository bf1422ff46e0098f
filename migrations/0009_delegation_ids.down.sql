-- Fails when two organisations have used the same id meanwhile: one of the two rows must go first.
-- Locks: ACCESS EXCLUSIVE on delegations while the index is built. Time: seconds for a million rows.

ALTER TABLE delegations
    DROP CONSTRAINT delegations_pkey,
    ADD PRIMARY KEY (delegation_id);
