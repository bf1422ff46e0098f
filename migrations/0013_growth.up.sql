-- Lists, counts and deletion of what has grown: each by an index, whatever the table's size.
--   delegations: operators' lists by status walk an index in the list's order, and the ledger's
--     retention finds rows by their end. The two indexes on the time alone served nothing else.
--   delegation_tallies: how many delegations have ended, as sums of small rows, so that counting
--     does not read the ledger. Filled here; a daily recount repairs what workers of the previous
--     version, which do not know the table, leave out.
--   activity_logs, inbox_items: retention walks each workspace's own index, oldest rows first.
--   a2a_queue: a purge finds all messages of a workspace.
--   tokens: retention finds revoked ones by the moment of their revocation.
-- Locks: writes to these tables wait while the indexes are built, about 2 s for a million rows each.

DROP INDEX idx_delegations_created;
DROP INDEX idx_delegations_org_created;
CREATE INDEX idx_delegations_status_created
    ON delegations (status, created_at DESC, delegation_id DESC);
CREATE INDEX idx_delegations_org_status_created
    ON delegations (organization_id, status, created_at DESC, delegation_id DESC);
CREATE INDEX idx_delegations_ended ON delegations (updated_at)
    WHERE status IN ('completed', 'failed', 'stuck');

CREATE TABLE delegation_tallies (
    organization_id uuid NOT NULL,
    status          text NOT NULL CHECK (status IN ('completed', 'failed', 'stuck')),
    -- Negative where retention deleted delegations.
    number          bigint NOT NULL
);
CREATE INDEX delegation_tallies_organization ON delegation_tallies (organization_id);
INSERT INTO delegation_tallies (organization_id, status, number)
SELECT organization_id, status, count(*) FROM delegations
WHERE status IN ('completed', 'failed', 'stuck') GROUP BY 1, 2;

DROP INDEX idx_activity_created_at;
DROP INDEX inbox_items_created;

DROP INDEX a2a_queue_in_flight;
CREATE INDEX a2a_queue_workspace ON a2a_queue (workspace_id, status);

CREATE INDEX workspace_auth_tokens_revoked ON workspace_auth_tokens (revoked_at)
    WHERE revoked_at IS NOT NULL;
CREATE INDEX org_api_tokens_revoked ON org_api_tokens (revoked_at) WHERE revoked_at IS NOT NULL;
