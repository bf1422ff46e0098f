DROP TABLE inbox_items;
DROP TABLE inbox_heads;
DROP TABLE activity_logs;
DROP TABLE delegations;
