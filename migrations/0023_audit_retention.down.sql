-- Locks: none.

DROP FUNCTION drop_audit_entries(integer, integer);
