-- A blob that a sweep is deleting stays on the list until its store has deleted it, and no commit
-- may own it any more. So no transaction is open while a store is asked.
ALTER TABLE loose_blobs ADD COLUMN deleting boolean NOT NULL DEFAULT false;
