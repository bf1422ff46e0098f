-- Kept and live events take their positions from one sequence: a transaction that writes both gives
-- each event a place of its own, so a reader's cursor neither repeats nor skips one.
-- Locks: both tables of events, exclusively, for milliseconds; no row is rewritten.

CREATE SEQUENCE event_positions AS bigint;

ALTER TABLE structure_events ALTER COLUMN position DROP IDENTITY;
ALTER TABLE live_events ALTER COLUMN position DROP IDENTITY;

SELECT setval('event_positions', greatest(
    (SELECT max(position) FROM structure_events), (SELECT max(position) FROM live_events), 0
) + 1);

ALTER TABLE structure_events ALTER COLUMN position SET DEFAULT nextval('event_positions'),
    ALTER COLUMN position SET NOT NULL;
ALTER TABLE live_events ALTER COLUMN position SET DEFAULT nextval('event_positions'),
    ALTER COLUMN position SET NOT NULL;
