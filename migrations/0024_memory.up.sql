-- Memories of agents by namespace, their earlier texts, grants, quarantine, and keys with values.
-- Vectors have no table here: `memory_enable_vectors` makes it as soon as the extension `vector` is there.
-- Locks: new tables only. Time: milliseconds.

-- Text without blanks between its words (Chinese, Japanese, Thai and their neighbours) as overlapping
-- pieces of two letters, separated by blanks; other text gives nothing. Linear in the text's length.
CREATE FUNCTION memory_pieces(content text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT coalesce(string_agg(letter || coalesce(following, ''), ' ' ORDER BY run, place), '')
    FROM (
        SELECT r.run, l.place, l.letter,
               lead(l.letter) OVER (PARTITION BY r.run ORDER BY l.place) AS following,
               count(*) OVER (PARTITION BY r.run) AS letters
        FROM regexp_matches(
                content,
                '[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+',
                'g'
             ) WITH ORDINALITY AS r (found, run),
             LATERAL string_to_table(r.found[1], NULL) WITH ORDINALITY AS l (letter, place)
    ) letters
    WHERE following IS NOT NULL OR letters = 1;
END;

-- The words of a text as the search of its namespace knows them.
CREATE FUNCTION memory_words(language regconfig, content text) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT to_tsvector(language, content) || to_tsvector('simple'::regconfig, memory_pieces(content));
END;

-- A namespace is made by the first write to it.
CREATE TABLE memory_namespaces (
    organization_id uuid NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    name            text NOT NULL CHECK (name ~ '^[a-z]+:[A-Za-z0-9_:.-]+$' AND length(name) <= 256),
    kind            text NOT NULL CHECK (kind IN ('workspace', 'team', 'org', 'custom')),
    language        regconfig NOT NULL DEFAULT 'english',
    expires_at      timestamptz,
    metadata        jsonb,
    -- What it holds now: changed by the statements that add and remove rows of `memories`.
    memories        integer NOT NULL DEFAULT 0,
    bytes           bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, name)
);
CREATE INDEX memory_namespaces_expired ON memory_namespaces (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE memories (
    id               uuid PRIMARY KEY,
    organization_id  uuid NOT NULL,
    namespace        text NOT NULL,
    content          text NOT NULL CHECK (octet_length(content) BETWEEN 1 AND 100000),
    content_sha256   bytea NOT NULL,
    kind             text NOT NULL CHECK (kind IN ('fact', 'summary', 'checkpoint')),
    source           text NOT NULL CHECK (source IN ('agent', 'runtime', 'user')),
    tags             text[] NOT NULL DEFAULT '{}',
    entities         text[] NOT NULL DEFAULT '{}',
    label            text NOT NULL DEFAULT 'general' CHECK (length(label) BETWEEN 1 AND 50),
    -- The workspace that wrote the current text. It may be purged.
    author_id        uuid,
    pinned           boolean NOT NULL DEFAULT false,
    expires_at       timestamptz,
    valid_from       timestamptz NOT NULL,
    valid_to         timestamptz CHECK (valid_to > valid_from),
    -- The memory in whose favour this one no longer holds. It may be forgotten.
    superseded_by    uuid,
    superseded_at    timestamptz,
    version          integer NOT NULL DEFAULT 1,
    change           text NOT NULL CHECK (change IN ('committed', 'updated', 'superseded', 'consolidated')),
    delegation_id    text,
    file_id          uuid,
    metadata         jsonb,
    redactions       integer NOT NULL DEFAULT 0,
    embed_state      text NOT NULL CHECK (embed_state IN ('pending', 'ready', 'failed', 'none')),
    words            tsvector NOT NULL,
    word_count       integer NOT NULL,
    -- Since when the current text has been known here.
    known_from       timestamptz NOT NULL DEFAULT now(),
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    last_recalled_at timestamptz,
    FOREIGN KEY (organization_id, namespace) REFERENCES memory_namespaces (organization_id, name)
        ON DELETE CASCADE,
    CHECK ((superseded_by IS NULL) = (superseded_at IS NULL))
);
CREATE INDEX memories_newest ON memories (organization_id, namespace, created_at DESC, id DESC);
CREATE INDEX memories_same ON memories (organization_id, namespace, content_sha256);
CREATE INDEX memories_author ON memories (organization_id, author_id, created_at DESC, id DESC);
CREATE INDEX memories_words ON memories USING gin (words);
CREATE INDEX memories_replacement ON memories (superseded_by) WHERE superseded_by IS NOT NULL;
CREATE INDEX memories_expired ON memories (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX memories_pending ON memories (updated_at, id) WHERE embed_state = 'pending';

-- Texts that an update replaced.
CREATE TABLE memory_versions (
    memory_id  uuid NOT NULL REFERENCES memories (id) ON DELETE CASCADE,
    version    integer NOT NULL,
    content    text NOT NULL,
    author_id  uuid,
    change     text NOT NULL,
    words      tsvector NOT NULL,
    word_count integer NOT NULL,
    known_from timestamptz NOT NULL,
    known_to   timestamptz NOT NULL,
    PRIMARY KEY (memory_id, version)
);

-- Rights that an operator gave beside those of the tree; the only ones in a custom namespace.
CREATE TABLE memory_grants (
    organization_id uuid NOT NULL,
    namespace       text NOT NULL CHECK (namespace ~ '^[a-z]+:[A-Za-z0-9_:.-]+$' AND length(namespace) <= 256),
    workspace_id    uuid NOT NULL,
    can_write       boolean NOT NULL,
    granted_by      text NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, namespace, workspace_id),
    FOREIGN KEY (workspace_id, organization_id) REFERENCES workspaces (id, organization_id)
        ON DELETE CASCADE
);
CREATE INDEX memory_grants_workspace ON memory_grants (workspace_id);

-- Authors whose texts nobody reads.
CREATE TABLE memory_quarantine (
    organization_id uuid NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    author_id       uuid NOT NULL,
    created_by      text NOT NULL,
    reason          text NOT NULL DEFAULT '',
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, author_id)
);

-- Keys of a workspace. A deleted key stays as a row without a value, so that its versions are never
-- used again.
CREATE TABLE memory_values (
    workspace_id uuid NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    key          text NOT NULL CHECK (length(key) BETWEEN 1 AND 512),
    value        jsonb CHECK (pg_column_size(value) <= 524288),
    version      integer NOT NULL,
    expires_at   timestamptz,
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, key)
);
CREATE INDEX memory_values_gone ON memory_values (updated_at) WHERE value IS NULL;
CREATE INDEX memory_values_expired ON memory_values (expires_at) WHERE expires_at IS NOT NULL;

-- Versions that rows of deleted keys had before they were swept: a new key begins above.
CREATE TABLE memory_value_floors (
    workspace_id uuid PRIMARY KEY REFERENCES workspaces (id) ON DELETE CASCADE,
    version      integer NOT NULL
);

-- Makes the table of vectors once the extension is there, which it creates if it may. Answers the
-- schema of the extension, or NULL without it. Runs with the rights of the schema's owner, because the
-- server's own role makes no tables. Harmless to repeat.
CREATE FUNCTION memory_enable_vectors() RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
AS $$
DECLARE
    home text;
    owned text;
BEGIN
    SELECT n.nspname INTO owned
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = 'memories'::regclass;
    SELECT n.nspname INTO home
    FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
    WHERE e.extname = 'vector';
    IF home IS NULL THEN
        BEGIN
            EXECUTE pg_catalog.format('CREATE EXTENSION vector SCHEMA %I', owned);
            home := owned;
        EXCEPTION WHEN OTHERS THEN
            RETURN NULL;
        END;
    END IF;
    IF pg_catalog.to_regclass(pg_catalog.format('%I.memory_embeddings', owned)) IS NULL THEN
        PERFORM pg_catalog.pg_advisory_xact_lock(7234017283807667300);
        EXECUTE pg_catalog.format(
            'CREATE TABLE IF NOT EXISTS %1$I.memory_embeddings (
                memory_id uuid NOT NULL REFERENCES %1$I.memories (id) ON DELETE CASCADE,
                model     text NOT NULL,
                chunk     integer NOT NULL,
                version   integer NOT NULL,
                embedding %2$I.vector NOT NULL,
                PRIMARY KEY (memory_id, model, chunk)
            )', owned, home);
    END IF;
    RETURN home;
END
$$;
