ALTER TABLE structure_events ALTER COLUMN position DROP DEFAULT;
ALTER TABLE structure_events ALTER COLUMN position ADD GENERATED ALWAYS AS IDENTITY;
ALTER TABLE live_events ALTER COLUMN position DROP DEFAULT;
ALTER TABLE live_events ALTER COLUMN position ADD GENERATED ALWAYS AS IDENTITY;

SELECT setval(pg_get_serial_sequence('structure_events', 'position'), nextval('event_positions'));
SELECT setval(pg_get_serial_sequence('live_events', 'position'), nextval('event_positions'));

DROP SEQUENCE event_positions;
