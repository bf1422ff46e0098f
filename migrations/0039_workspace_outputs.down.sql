DROP TABLE workspace_outputs;
