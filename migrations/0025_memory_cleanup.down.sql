-- Locks: none.

DROP TABLE memory_cleanup_outbox;
