-- Rows of a workspace's record that one statement writes shared their time, and a page of history
-- that ended between two of them lost the others. The head remembers the time of the newest row:
-- each row's is at least a microsecond later. Rows of the previous version, and those that it
-- writes beside this one, may still share theirs.
-- Locks: exclusive on inbox_heads for milliseconds, no rewrite.

ALTER TABLE inbox_heads ADD COLUMN record_time timestamptz NOT NULL DEFAULT '-infinity';
