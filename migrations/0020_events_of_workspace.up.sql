-- A list of a workspace's events walks an index in the order of the feed, which names one event where
-- times do not, so that a page goes on exactly behind the last one.
-- Locks: writes to structure_events wait while the index is built, about 2 s for a million rows.

CREATE INDEX structure_events_workspace_feed ON structure_events (workspace_id, xact, position);
DROP INDEX structure_events_workspace;
