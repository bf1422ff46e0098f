-- Memories of agents by namespace, their earlier texts, grants, quarantine, and keys with values.
-- Vectors have no table here: `memory_enable_vectors` makes it as soon as the extension `vector` is there.
-- Locks: new tables only. Time: milliseconds.

-- Text without blanks between its words (Chinese, Japanese, Thai and their neighbours) as overlapping
-- pieces of two letters, separated by blanks; other text gives nothing. Linear in the text's length.
CREATE FUNCTION memory_pieces(content text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
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

-- The words of a text as the search of its namespace knows them. Not STRICT, and without a path of
-- its own: Postgres then puts the expression in the place of the call, which costs 60 µs. A text of as
-- many bytes as characters is ASCII, and has no pieces.
CREATE FUNCTION memory_words(language regconfig, content text) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT CASE WHEN octet_length(content) = char_length(content) THEN to_tsvector(language, content)
                ELSE to_tsvector(language, content)
                     || to_tsvector('simple'::regconfig, memory_pieces(content)) END;
END;

-- How many words a text has, each as often as it occurs.
CREATE FUNCTION memory_word_count(words tsvector) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
    SELECT coalesce(sum(cardinality(w.positions)), 0)::integer FROM unnest(words) w;
END;

-- How often a text has a word that it has, given as a query of this one word; up to 256. The system
-- has no function for it but `unnest`, which unpacks the whole text. Its rank with all weights 1 is
-- the sum of 1/i² over the occurrences, divided by its limit; what is missing to the limit tells how
-- many there were, since the rest of that sum after n terms is 1 / (n + 1/2) up to 0.05 occurrences.
CREATE FUNCTION memory_occurrences(words tsvector, word tsquery) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
    SELECT round(1 / (1.64493406685 * greatest(1 - ts_rank('{1,1,1,1}', words, word), 0.001)) - 0.5);
END;

-- The key of a text within a namespace, in one column: with several, a plan made while the table is
-- empty could take an index that begins with the organisation, and later read all rows of that.
CREATE FUNCTION memory_text_key(organization_id uuid, namespace text, content_sha256 bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
BEGIN ATOMIC
    SELECT sha256(uuid_send(organization_id) || content_sha256 || convert_to(namespace, 'UTF8'));
END;

-- A namespace is made by the first write to it.
CREATE TABLE memory_namespaces (
    organization_id uuid NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    name            text NOT NULL CHECK (name ~ '^[a-z]+:[A-Za-z0-9_:.-]+$' AND length(name) <= 256),
    kind            text NOT NULL CHECK (kind IN ('workspace', 'team', 'org', 'custom')),
    language        regconfig NOT NULL DEFAULT 'english',
    expires_at      timestamptz,
    metadata        jsonb,
    -- Memories, also superseded, and the bytes of all their texts: kept by the writers of texts.
    memories        integer NOT NULL DEFAULT 0,
    bytes           bigint NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (organization_id, name)
);
CREATE INDEX memory_namespaces_expired ON memory_namespaces (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE memories (
    -- An id that a client chose meets those of its own organisation only.
    organization_id  uuid NOT NULL,
    id               uuid NOT NULL,
    namespace        text NOT NULL,
    content          text NOT NULL CHECK (octet_length(content) BETWEEN 1 AND 100000),
    content_sha256   bytea NOT NULL,
    -- See `memory_text_key`; NULL where a second row with the text is wanted, or the memory holds no more.
    text_key         bytea,
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
    -- By the id first: a plan made while the table is empty takes any index that begins with the
    -- organisation, and reads all its rows when there are many.
    PRIMARY KEY (id, organization_id),
    FOREIGN KEY (organization_id, namespace) REFERENCES memory_namespaces (organization_id, name)
        ON DELETE CASCADE,
    CHECK ((superseded_by IS NULL) = (superseded_at IS NULL))
);
CREATE INDEX memories_newest ON memories (organization_id, namespace, created_at DESC, id DESC);
CREATE UNIQUE INDEX memories_once ON memories (text_key) WHERE text_key IS NOT NULL;
CREATE INDEX memories_author ON memories (organization_id, author_id, created_at DESC, id DESC);
CREATE INDEX memories_pinned ON memories (organization_id, namespace, created_at DESC, id DESC) WHERE pinned;
CREATE INDEX memories_replacement ON memories (superseded_by) WHERE superseded_by IS NOT NULL;
CREATE INDEX memories_expired ON memories (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX memories_pending ON memories (updated_at, id) WHERE embed_state = 'pending';
CREATE INDEX memories_failed ON memories (organization_id) WHERE embed_state = 'failed';
CREATE INDEX memories_pending_here ON memories (organization_id, namespace) WHERE embed_state = 'pending';

-- Texts that an update replaced.
CREATE TABLE memory_versions (
    organization_id uuid NOT NULL,
    memory_id       uuid NOT NULL,
    version         integer NOT NULL,
    content         text NOT NULL,
    author_id       uuid,
    change          text NOT NULL,
    words           tsvector NOT NULL,
    word_count      integer NOT NULL,
    known_from      timestamptz NOT NULL,
    known_to        timestamptz NOT NULL,
    PRIMARY KEY (organization_id, memory_id, version),
    FOREIGN KEY (organization_id, memory_id) REFERENCES memories (organization_id, id) ON DELETE CASCADE
);

-- What organisations keep, as sums of a few rows for each, so that writers seldom wait for one another.
CREATE TABLE memory_usage (
    organization_id uuid NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    -- Writers spread over some rows.
    shard           smallint NOT NULL,
    memories        bigint NOT NULL,
    bytes           bigint NOT NULL,
    PRIMARY KEY (organization_id, shard)
)
-- Rows are rewritten without touching an index: leave them room on the page.
WITH (fillfactor = 50);

-- ANALYZE copies values of columns into the statistics of the planner, where they outlive their rows.
ALTER TABLE memories
    ALTER content SET STATISTICS 0, ALTER words SET STATISTICS 0, ALTER tags SET STATISTICS 0,
    ALTER entities SET STATISTICS 0, ALTER metadata SET STATISTICS 0;
ALTER TABLE memory_versions ALTER content SET STATISTICS 0, ALTER words SET STATISTICS 0;

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
    value        jsonb CHECK (pg_column_size(value) <= 4194304),
    version      integer NOT NULL,
    expires_at   timestamptz,
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (workspace_id, key)
);
CREATE INDEX memory_values_gone ON memory_values (updated_at) WHERE value IS NULL;
CREATE INDEX memory_values_expired ON memory_values (expires_at) WHERE expires_at IS NOT NULL;

ALTER TABLE memory_values ALTER value SET STATISTICS 0;

-- Versions that rows of deleted keys had before they were swept: a new key begins above.
CREATE TABLE memory_value_floors (
    workspace_id uuid PRIMARY KEY REFERENCES workspaces (id) ON DELETE CASCADE,
    version      integer NOT NULL
);

-- Which worker turns texts into vectors of a model now: one is enough to keep an embedder busy.
CREATE TABLE memory_readers (
    model  text PRIMARY KEY,
    holder uuid NOT NULL,
    until  timestamptz NOT NULL
);

-- Makes the table of vectors, and the index of one model's vectors, as soon as the extension is there,
-- which it creates if it may. Answers the schema of the extension, or NULL without it. Runs with the
-- rights of the schema's owner, because the server's own role makes no tables. Harmless to repeat.
CREATE FUNCTION memory_enable_vectors(model text, dimensions integer) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER
-- Names below say their schema, and what has none is the system's: the caller's path has no say.
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    me oid;
    owned text;
    home text;
    grantee text;
    index_name text := 'memory_embeddings_' || substr(md5(model), 1, 16);
    -- An index takes vectors up to 2,000 dimensions, and half-precision ones up to 4,000.
    form text := CASE WHEN dimensions <= 2000 THEN 'vector' ELSE 'halfvec' END;
BEGIN
    IF dimensions NOT BETWEEN 1 AND 16000 OR octet_length(model) NOT BETWEEN 1 AND 200 THEN
        RAISE EXCEPTION 'no model has % dimensions or such a name', dimensions;
    END IF;
    GET DIAGNOSTICS me = PG_ROUTINE_OID;
    SELECT n.nspname INTO STRICT owned
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE p.oid = me;
    SELECT n.nspname INTO home
    FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector';
    IF home IS NOT NULL AND to_regclass(format('%I.%I', owned, index_name)) IS NOT NULL THEN
        RETURN home;
    END IF;
    PERFORM pg_advisory_xact_lock(7234017283807667300);
    IF home IS NULL THEN
        BEGIN
            EXECUTE format('CREATE EXTENSION IF NOT EXISTS vector SCHEMA %I', owned);
        EXCEPTION WHEN OTHERS THEN
            RETURN NULL;
        END;
        SELECT n.nspname INTO STRICT home
        FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector';
    END IF;
    IF to_regclass(format('%I.memory_embeddings', owned)) IS NULL THEN
        EXECUTE format(
            'CREATE TABLE %1$I.memory_embeddings (
                organization_id uuid NOT NULL,
                memory_id      uuid NOT NULL,
                model          text NOT NULL,
                chunk          integer NOT NULL,
                -- Of the text that the vector was made of: a vector of an earlier text counts for nothing.
                content_sha256 bytea NOT NULL,
                embedding      %2$I.vector NOT NULL,
                created_at     timestamptz NOT NULL DEFAULT now(),
                PRIMARY KEY (memory_id, model, chunk, organization_id),
                FOREIGN KEY (organization_id, memory_id)
                    REFERENCES %1$I.memories (organization_id, id) ON DELETE CASCADE
            )', owned, home);
        EXECUTE format(
            'ALTER TABLE %I.memory_embeddings ALTER embedding SET STORAGE MAIN,
                 ALTER embedding SET STATISTICS 0',
            owned
        );
        -- Whoever writes memories writes vectors.
        FOR grantee IN
            SELECT DISTINCT r.rolname
            FROM pg_class c, aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee
            WHERE c.oid = to_regclass(format('%I.memories', owned)) AND a.privilege_type = 'INSERT'
        LOOP
            EXECUTE format(
                'GRANT SELECT, INSERT, UPDATE, DELETE ON %I.memory_embeddings TO %I', owned, grantee
            );
        END LOOP;
    END IF;
    -- Made while the model has no vectors yet, and filled as they come.
    IF dimensions <= 4000 THEN
        EXECUTE format(
            'CREATE INDEX IF NOT EXISTS %1$I ON %2$I.memory_embeddings
             USING hnsw ((embedding::%3$I.%4$I(%5$s)) %3$I.%4$s_cosine_ops) WHERE model = %6$L',
            index_name, owned, home, form, dimensions, model
        );
        IF EXISTS (
            SELECT FROM pg_attribute
            WHERE attrelid = to_regclass(format('%I.%I', owned, index_name)) AND attnum = 1
              AND attstattarget IS DISTINCT FROM 0
        ) THEN
            EXECUTE format('ALTER INDEX %I.%I ALTER COLUMN 1 SET STATISTICS 0', owned, index_name);
        END IF;
    END IF;
    RETURN home;
END
$$;
REVOKE ALL ON FUNCTION memory_enable_vectors(text, integer) FROM PUBLIC;
