-- Tokens that only read, tokens that expire, and the log of who did what.
-- Locks: exclusive on both tables of tokens for milliseconds, no row is rewritten. The previous version
-- works on this schema, but does not know that a token only reads or has expired.

ALTER TABLE workspace_auth_tokens
    ADD COLUMN read_only boolean NOT NULL DEFAULT false,
    ADD COLUMN expires_at timestamptz;
ALTER TABLE org_api_tokens
    ADD COLUMN read_only boolean NOT NULL DEFAULT false,
    ADD COLUMN expires_at timestamptz;
-- For the sweep of tokens that expired long ago.
CREATE INDEX workspace_auth_tokens_expires ON workspace_auth_tokens (expires_at)
    WHERE expires_at IS NOT NULL;
CREATE INDEX org_api_tokens_expires ON org_api_tokens (expires_at) WHERE expires_at IS NOT NULL;

-- No foreign keys: an entry outlives what it tells of.
CREATE TABLE audit_log (
    id              uuid PRIMARY KEY,
    at              timestamptz NOT NULL,
    party           text NOT NULL,
    token_prefix    text NOT NULL,
    organization_id uuid,
    workspace_id    uuid,
    rpc             text NOT NULL,
    subject         text NOT NULL,
    outcome         text NOT NULL,
    reason          text NOT NULL,
    address         text NOT NULL,
    request_id      text NOT NULL,
    calls           integer NOT NULL
);
CREATE INDEX audit_log_newest ON audit_log (at DESC, id DESC);
CREATE INDEX audit_log_of_organization ON audit_log (organization_id, at DESC, id DESC);
CREATE INDEX audit_log_of_workspace ON audit_log (workspace_id, at DESC, id DESC);

-- The server owns its tables, so that a grant could not keep it from changing what it wrote.
CREATE FUNCTION audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND OLD.at < now() - interval '7 days' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'the audit log is append-only for 7 days'
        USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER audit_log_rows BEFORE UPDATE OR DELETE ON audit_log
    FOR EACH ROW EXECUTE FUNCTION audit_log_is_append_only();
CREATE TRIGGER audit_log_whole BEFORE TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only();
