DROP TABLE audit_log;
DROP FUNCTION audit_log_is_append_only();
-- Without the columns these tokens would do more, or for longer, than they may.
UPDATE workspace_auth_tokens SET revoked_at = now()
WHERE revoked_at IS NULL AND (read_only OR expires_at IS NOT NULL);
UPDATE org_api_tokens SET revoked_at = now()
WHERE revoked_at IS NULL AND (read_only OR expires_at IS NOT NULL);
ALTER TABLE workspace_auth_tokens DROP COLUMN read_only, DROP COLUMN expires_at;
ALTER TABLE org_api_tokens DROP COLUMN read_only, DROP COLUMN expires_at;
