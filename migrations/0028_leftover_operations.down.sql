-- Locks: workspace_leftovers, for milliseconds.

DELETE FROM workspace_leftovers WHERE operation_id <> '00000000-0000-0000-0000-000000000000';
ALTER TABLE workspace_leftovers
    DROP CONSTRAINT workspace_leftovers_pkey,
    ADD PRIMARY KEY (workspace_id, backend, resource_id),
    DROP COLUMN operation_id;
