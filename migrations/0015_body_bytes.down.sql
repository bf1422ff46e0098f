ALTER TABLE activity_logs DROP COLUMN body_bytes;
