-- The installation's secret that signs page tokens, the same for every worker.
-- Locks: new table only. Time: milliseconds.

CREATE TABLE installation_keys (
    purpose text PRIMARY KEY,
    key     bytea NOT NULL CHECK (length(key) = 32)
);

INSERT INTO installation_keys (purpose, key)
VALUES ('page_tokens', sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())));
