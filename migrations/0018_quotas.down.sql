-- Locks: exclusive on inbox_heads for milliseconds.

ALTER TABLE inbox_heads DROP COLUMN open_delegations;
DROP TABLE organization_usage;
