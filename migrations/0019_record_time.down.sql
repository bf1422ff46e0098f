ALTER TABLE inbox_heads DROP COLUMN record_time;
