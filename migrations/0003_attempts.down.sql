DROP INDEX inbox_items_poison;

ALTER TABLE delegations
    DROP COLUMN max_attempts,
    DROP COLUMN retry_backoff_seconds,
    DROP COLUMN item_id,
    DROP COLUMN progress_note,
    DROP COLUMN progress_percent,
    DROP COLUMN retry_of;
