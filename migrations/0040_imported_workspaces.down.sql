DROP TABLE imported_workspaces;
