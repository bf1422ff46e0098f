DROP TABLE operator_tokens;
DROP TABLE org_api_tokens;
DROP TABLE workspace_auth_tokens;
DROP TABLE canvas_layouts;
DROP TABLE workspaces;
DROP TABLE organizations;
DROP TYPE workspace_status;
