-- Files that wait for agents that nobody can call.
-- Locks: new tables only. Time: milliseconds.

CREATE TABLE pending_uploads (
    file_id         uuid PRIMARY KEY,
    -- No foreign keys: a removal and the sweep let go of files.
    workspace_id    uuid NOT NULL,
    organization_id uuid NOT NULL,
    filename        text NOT NULL CHECK (char_length(filename) BETWEEN 1 AND 100),
    mimetype        text NOT NULL DEFAULT '',
    size_bytes      bigint NOT NULL CHECK (size_bytes > 0 AND size_bytes <= 104857600),
    sha256          bytea NOT NULL CHECK (octet_length(sha256) = 32),
    -- Which store holds the bytes, under the id of the file.
    storage         text NOT NULL CHECK (storage IN ('postgres', 's3')),
    -- The request that brought it, and its place among that request's files.
    request_id      text,
    position        integer NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL DEFAULT now(),
    fetched_at      timestamptz,
    acked_at        timestamptz,
    expires_at      timestamptz NOT NULL DEFAULT now() + interval '24 hours'
);
CREATE UNIQUE INDEX idx_pending_uploads_request
    ON pending_uploads (workspace_id, request_id, position) WHERE request_id IS NOT NULL;
CREATE INDEX idx_pending_uploads_workspace
    ON pending_uploads (workspace_id, created_at, position);
CREATE INDEX idx_pending_uploads_expires ON pending_uploads (expires_at) WHERE acked_at IS NULL;
CREATE INDEX idx_pending_uploads_acked ON pending_uploads (acked_at) WHERE acked_at IS NOT NULL;

-- A file that is written in several steps. Until it is committed its bytes are chunks here,
-- whichever store gets them in the end.
CREATE TABLE upload_sessions (
    upload_id       uuid PRIMARY KEY,
    workspace_id    uuid NOT NULL,
    organization_id uuid NOT NULL,
    filename        text NOT NULL,
    mimetype        text NOT NULL,
    size_bytes      bigint NOT NULL CHECK (size_bytes > 0),
    committed_bytes bigint NOT NULL DEFAULT 0 CHECK (committed_bytes <= size_bytes),
    request_id      text,
    expires_at      timestamptz NOT NULL
);
CREATE UNIQUE INDEX idx_upload_sessions_request
    ON upload_sessions (workspace_id, request_id) WHERE request_id IS NOT NULL;
CREATE INDEX idx_upload_sessions_workspace ON upload_sessions (workspace_id);
CREATE INDEX idx_upload_sessions_expires ON upload_sessions (expires_at);

-- Bytes, apart from the rows that are listed and swept. They do not compress (most files are
-- compressed already), so that a part of one can be read without the rest.
CREATE TABLE upload_chunks (
    blob_id      uuid NOT NULL,
    start_offset integer NOT NULL,
    data         bytea STORAGE EXTERNAL NOT NULL,
    PRIMARY KEY (blob_id, start_offset)
);

-- Bytes that no file owns: being written, or waiting to be deleted. They go when they are due.
CREATE TABLE loose_blobs (
    blob_id uuid NOT NULL,
    storage text NOT NULL CHECK (storage IN ('postgres', 's3')),
    due_at  timestamptz NOT NULL,
    PRIMARY KEY (blob_id, storage)
);
CREATE INDEX idx_loose_blobs_due ON loose_blobs (due_at);
