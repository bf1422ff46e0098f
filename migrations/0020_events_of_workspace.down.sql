CREATE INDEX structure_events_workspace ON structure_events (workspace_id, created_at DESC);
DROP INDEX structure_events_workspace_feed;
