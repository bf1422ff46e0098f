DROP TRIGGER workspace_changed ON workspaces;
DROP TRIGGER workspace_added ON workspaces;
DROP FUNCTION keep_workspace_event();
DROP TABLE live_events;
DROP TABLE structure_events;
