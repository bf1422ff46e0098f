-- A workspace's events are written by the statement that makes the change, with names from the
-- program's one list. The trigger goes, which made names out of stored states.
-- Rolling upgrade: until its last worker stops, the previous version changes workspaces on this
-- schema without telling the feed. The rows themselves are right; no reader depends on every event.
-- Locks: workspaces, exclusively, for milliseconds; no row is rewritten.

DROP TRIGGER workspace_changed ON workspaces;
DROP TRIGGER workspace_added ON workspaces;
DROP FUNCTION keep_workspace_event();
