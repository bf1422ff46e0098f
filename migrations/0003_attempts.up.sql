-- Retries, progress and the way back to the task of a delegation.
-- Locks: ACCESS EXCLUSIVE on delegations, without a rewrite. Time: milliseconds.

ALTER TABLE delegations
    ADD COLUMN max_attempts integer NOT NULL DEFAULT 1 CHECK (max_attempts BETWEEN 1 AND 20),
    ADD COLUMN retry_backoff_seconds integer NOT NULL DEFAULT 10,
    -- The activity row with the whole task, for another attempt.
    ADD COLUMN item_id uuid,
    ADD COLUMN progress_note text,
    ADD COLUMN progress_percent integer CHECK (progress_percent BETWEEN 0 AND 100),
    -- The delegation that an operator tried again with this one.
    ADD COLUMN retry_of text;

CREATE INDEX inbox_items_poison ON inbox_items (done_at DESC) WHERE outcome = 'poison';
