-- Kept and live events take their positions from one sequence: a transaction that writes both gives
-- each event a place of its own, so a reader's cursor neither repeats nor skips one.
-- Locks: both tables of events, exclusively, for milliseconds; no row is read or rewritten.

LOCK TABLE structure_events, live_events IN ACCESS EXCLUSIVE MODE;

CREATE SEQUENCE event_positions AS bigint;
-- The sequences know the highest position; looking for it in the rows would read both tables.
SELECT setval('event_positions', greatest(
    (SELECT last_value FROM structure_events_position_seq),
    (SELECT last_value FROM live_events_position_seq)
) + 1);

ALTER TABLE structure_events ALTER COLUMN position DROP IDENTITY;
ALTER TABLE structure_events ALTER COLUMN position SET DEFAULT nextval('event_positions');
ALTER TABLE live_events ALTER COLUMN position DROP IDENTITY;
ALTER TABLE live_events ALTER COLUMN position SET DEFAULT nextval('event_positions');
