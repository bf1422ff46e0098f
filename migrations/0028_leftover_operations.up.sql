-- A leftover may be known by the operation that made it, where the engine never told an id.
-- Locks: workspace_leftovers, for milliseconds: the table is small.

ALTER TABLE workspace_leftovers
    -- Zeros where the id is known.
    ADD COLUMN operation_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    DROP CONSTRAINT workspace_leftovers_pkey,
    ADD PRIMARY KEY (workspace_id, backend, resource_id, operation_id);
