-- An id of a delegation belongs to its organisation: what one records, another cannot detect.
-- Locks: ACCESS EXCLUSIVE on delegations while the index is built. Time: seconds for a million rows.

ALTER TABLE delegations
    DROP CONSTRAINT delegations_pkey,
    -- Looked up by id, which hardly ever has two.
    ADD PRIMARY KEY (delegation_id, organization_id);
