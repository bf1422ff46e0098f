-- Locks: workspaces, exclusively, for milliseconds.

DROP TABLE workspace_operations;
ALTER TABLE workspaces
    DROP COLUMN template,
    DROP COLUMN model,
    DROP COLUMN backend,
    DROP COLUMN resource_id,
    DROP COLUMN runtime_image_digest,
    DROP COLUMN egress,
    DROP COLUMN hibernation_idle_minutes,
    DROP COLUMN last_active_at,
    DROP COLUMN provisioning_started_at,
    DROP COLUMN provision_timeout_seconds,
    DROP COLUMN source_bundle_id;
