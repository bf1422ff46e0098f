DROP TABLE loose_blobs;
DROP TABLE upload_chunks;
DROP TABLE upload_sessions;
DROP TABLE pending_uploads;
