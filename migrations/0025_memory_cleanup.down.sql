DROP TABLE memory_cleanup_outbox;
