-- Pages of a workspace's record end by bytes before any body is read: each row says how large its
-- bodies are. NULL in rows of the previous version, whose size is then computed from the bodies.
-- Locks: activity_logs for some milliseconds, no rewrite.

ALTER TABLE activity_logs ADD COLUMN body_bytes integer;
