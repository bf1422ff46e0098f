-- The indexes on times again, without the ended delegations' counts.
DROP INDEX org_api_tokens_revoked;
DROP INDEX workspace_auth_tokens_revoked;
DROP INDEX a2a_queue_workspace;
CREATE INDEX a2a_queue_in_flight ON a2a_queue (workspace_id) WHERE status = 'dispatched';
CREATE INDEX inbox_items_created ON inbox_items (created_at);
CREATE INDEX idx_activity_created_at ON activity_logs USING brin (created_at);
DROP TABLE delegation_tallies;
DROP INDEX idx_delegations_ended;
DROP INDEX idx_delegations_org_status_created;
DROP INDEX idx_delegations_status_created;
CREATE INDEX idx_delegations_org_created ON delegations (organization_id, created_at DESC);
CREATE INDEX idx_delegations_created ON delegations (created_at DESC);
