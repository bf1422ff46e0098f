-- Which images runtimes are pinned to, and which ones registries had last.
-- Locks: writes to workspaces wait while an index is built in the place of another: 0.1 s for each 100,000
-- rows. The previous version works on this schema, and ignores pins.

CREATE TABLE runtime_image_pins (
    runtime   text PRIMARY KEY,
    -- The first one is in force; the others are where rollbacks lead.
    digests   text[] NOT NULL CHECK (cardinality(digests) BETWEEN 1 AND 20),
    pinned_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE runtime_images_seen (
    runtime   text PRIMARY KEY,
    -- A runtime whose configured image is another one is seen anew.
    reference text NOT NULL,
    digest    text NOT NULL,
    seen_at   timestamptz NOT NULL DEFAULT now()
);

DROP INDEX workspaces_image;
CREATE INDEX workspaces_image ON workspaces (runtime, runtime_image_digest)
    WHERE runtime_image_digest IS NOT NULL;
