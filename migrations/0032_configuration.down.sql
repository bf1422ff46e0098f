DROP TABLE secret_rollouts;
DROP TABLE workspace_token_usage;
DROP TABLE agents;
DROP TABLE workspace_config;
ALTER TABLE workspaces DROP COLUMN spend_reported_at;
