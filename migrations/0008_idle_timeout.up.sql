-- How long an agent may be silent while it is called, as its runtime says.
-- Locks: ACCESS EXCLUSIVE on workspaces, without a rewrite. Time: milliseconds.

ALTER TABLE workspaces
    -- NULL and 0 stand for the platform's default.
    ADD COLUMN idle_timeout_seconds integer CHECK (idle_timeout_seconds >= 0);
