DROP TABLE a2a_queue;
