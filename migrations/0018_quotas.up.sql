-- What organisations and workspaces use of their quotas, kept by the statements that change it.
--   organization_usage: sums of a few rows for each organisation. Filled here; a daily recount
--     repairs what workers of the previous version, which do not know the table, leave out.
--   inbox_heads.open_delegations: delegations under way that the workspace has handed out.
-- Locks: exclusive on inbox_heads, reads too, until delegations under way are counted and the heads
-- of their callers are written: a second for 100,000 of them.

CREATE TABLE organization_usage (
    -- No foreign key: the row is written with every row of a record.
    organization_id  uuid NOT NULL,
    -- Writers spread over some rows.
    shard            smallint NOT NULL,
    -- The day of UTC that `record_bytes` is of.
    day              date NOT NULL,
    record_bytes     bigint NOT NULL,
    open_delegations bigint NOT NULL,
    PRIMARY KEY (organization_id, shard)
)
-- Rows are rewritten without touching an index: leave them room on the page.
WITH (fillfactor = 50);

ALTER TABLE inbox_heads ADD COLUMN open_delegations bigint NOT NULL DEFAULT 0;

WITH counted AS (
    SELECT d.caller_id, w.organization_id, count(*) AS number
    FROM delegations d JOIN workspaces w ON w.id = d.caller_id
    WHERE d.status IN ('queued', 'dispatched', 'in_progress') GROUP BY 1, 2
),
of_organizations AS (
    INSERT INTO organization_usage (organization_id, shard, day, record_bytes, open_delegations)
    SELECT organization_id, 0, (now() AT TIME ZONE 'UTC')::date, 0, sum(number)
    FROM counted GROUP BY organization_id
)
UPDATE inbox_heads h SET open_delegations = c.number
FROM counted c WHERE h.workspace_id = c.caller_id;
