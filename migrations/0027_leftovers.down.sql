-- Locks: workspaces, exclusively, for milliseconds.

DROP INDEX workspaces_provisioning;
DROP TABLE workspace_leftovers;
