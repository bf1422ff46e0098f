ALTER TABLE loose_blobs DROP COLUMN deleting;
