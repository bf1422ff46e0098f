-- Locks: ACCESS EXCLUSIVE on workspaces, without a rewrite. Time: milliseconds.

ALTER TABLE workspaces DROP COLUMN idle_timeout_seconds;
