"""Files that are written in several requests: a broken connection costs only the last bytes."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool, database_errors
from molecule_grpc.kernel.budget import Turns
from molecule_grpc.kernel.errors import Aborted, Invalid
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.upload.blobs.port import BlobBatch, BlobStore
from molecule_grpc.upload.blobs.postgres import CHUNK_BYTES, PostgresBlobs
from molecule_grpc.upload.names import clean_media_type, clean_name
from molecule_grpc.upload.ports import Check
from molecule_grpc.upload.publishing import Publisher, uploaded_file
from molecule_grpc.upload.refusals import not_found
from molecule_grpc.upload.rules import UploadLimits, too_large
from molecule_grpc.upload.store import sessions, uploads
from molecule_grpc.upload.store.sessions import UploadSession
from molecule_grpc.upload.store.targets import UploadTarget
from molecule_grpc.upload.store.uploads import StoredFile, UploadDraft
from molecule_grpc.upload.values import UploadProgress


class ResumableUploads:
    """Keeps what arrives, chunk by chunk, until the file is whole.

    The chunks are in Postgres, whichever store keeps the whole file: an upload can be resumed at
    any byte, which the parts of S3 (5 MiB and more) do not allow.

    Args:
        turns: lets so many requests write at the same time: each holds up to 1 MiB.
        ttl: how long an unfinished upload is kept after its start.
    """

    def __init__(
        self,
        pool: Pool,
        blobs: BlobStore,
        publisher: Publisher,
        limits: UploadLimits,
        turns: Turns,
        ttl: timedelta,
    ) -> None:
        self._pool = pool
        self._blobs = blobs
        self._chunks = PostgresBlobs(pool)
        self._publisher = publisher
        self._limits = limits
        self._turns = turns
        self._ttl = ttl

    async def start(
        self, target: UploadTarget, filename: str, mime_type: str, size: int, request_id: str
    ) -> UploadProgress:
        """Begin a file, or find the one that this request began.

        Raises:
            Invalid: FILE_TOO_LARGE.
            Exhausted: UPLOAD_QUOTA_EXCEEDED.
            Aborted: IDEMPOTENCY_MISMATCH.
        """
        name = clean_name(filename)
        if size > self._limits.per_file:
            raise too_large(name, size, self._limits.per_file)
        with database_errors():
            async with self._pool.acquire() as conn, conn.transaction():
                await uploads.lock(conn, target.id)
                if request_id and (found := await self._started(conn, target.id, request_id)):
                    if (found.name, found.size) != (name, size):
                        raise _mismatch()
                    return found
                await self._publisher.require_room(conn, target.id, 1, size)
                session = await sessions.start(
                    conn,
                    new_id(),
                    workspace_id=target.id,
                    organization_id=target.organization_id,
                    filename=name,
                    mimetype=clean_media_type(mime_type),
                    size=size,
                    request_id=request_id or None,
                    ttl=self._ttl,
                )
        return _unfinished(session)

    async def write(
        self,
        workspace_id: UUID,
        upload_id: UUID,
        offset: int,
        pieces: AsyncIterator[bytes],
        check: Check,
    ) -> UploadProgress:
        """Add bytes at `offset`. They are stored a chunk at a time, also when the rest never comes.

        Args:
            check: asked before each chunk is stored.

        Raises:
            NotFound: UPLOAD_NOT_FOUND.
            Aborted: OFFSET_MISMATCH: the stored bytes end elsewhere.
            Invalid: more bytes than announced.
            Exhausted: RESOURCE_EXHAUSTED: no turn for 30 s.
        """
        session = await self._require(workspace_id, upload_id)
        if offset != session.committed_bytes:
            raise _offset_mismatch(session.committed_bytes)
        writer = _ChunkWriter(self._pool, session, check)
        async with self._turns.turn(organization=session.organization_id):
            try:
                async for piece in pieces:
                    await writer.add(piece)
            finally:
                # Also after a client has left: on resuming, the client sends only the later bytes.
                await writer.flush()
        return _unfinished(await self._require(workspace_id, upload_id))

    async def progress(self, workspace_id: UUID, upload_id: UUID) -> UploadProgress:
        """How far an upload is.

        Raises:
            NotFound: UPLOAD_NOT_FOUND.
        """
        with database_errors():
            session = await sessions.find(self._pool, workspace_id, upload_id)
            if session is not None:
                return _unfinished(session)
            file = await uploads.find(self._pool, workspace_id, upload_id)
        if file is None:
            raise not_found()
        return _committed(file)

    async def commit(
        self, target: UploadTarget, upload_id: UUID, sha256: str, check: Check
    ) -> UploadProgress:
        """Make the file visible, if all its bytes are stored and have this SHA-256.

        Args:
            check: asked right before the file becomes visible.

        Raises:
            NotFound: UPLOAD_NOT_FOUND.
            Aborted: UPLOAD_INCOMPLETE, or another commit ran at the same moment.
            Invalid: CHECKSUM_MISMATCH; the upload is void then.
            Exhausted: UPLOAD_QUOTA_EXCEEDED or INBOX_FULL.
        """
        with database_errors():
            session = await sessions.find(self._pool, target.id, upload_id)
        if session is None:
            return await self._repeated(target.id, upload_id, sha256)
        if session.committed_bytes != session.size:
            raise _incomplete(session)
        moving = self._blobs.name != PostgresBlobs.name
        async with self._blobs.batch() as batch:
            digest = await self._read_all(session, batch if moving else None)
            if digest.hex() != sha256.lower():
                with database_errors():
                    await sessions.drop(self._pool, upload_id)
                raise _wrong_checksum()
            await batch.flush()

            async def settle(conn: Connection) -> None:
                await batch.settle(conn)
                end = sessions.drop if moving else sessions.take
                if not await end(conn, upload_id):
                    raise Aborted("the upload was committed or given up at the same moment")

            draft = UploadDraft(upload_id, session.filename, session.mimetype, session.size, digest)
            await self._publisher.publish(target, [draft], session.request_id, settle, check)
        return await self.progress(target.id, upload_id)

    async def _read_all(self, session: UploadSession, copy_to: BlobBatch | None) -> bytes:
        """The SHA-256 of the stored bytes, copied to another store on the way."""
        digest = hashlib.sha256()
        if copy_to is not None:
            await copy_to.begin(session.upload_id)
        async for piece in self._chunks.read(session.upload_id, 0, session.size):
            digest.update(piece)
            if copy_to is not None:
                await copy_to.write(piece)
        if copy_to is not None:
            await copy_to.end()
        return digest.digest()

    async def _started(
        self, conn: Connection, workspace_id: UUID, request_id: str
    ) -> UploadProgress | None:
        session = await sessions.of_request(conn, workspace_id, request_id)
        if session is not None:
            return _unfinished(session)
        files = await uploads.of_request(conn, workspace_id, request_id)
        return _committed(files[0]) if files else None

    async def _require(self, workspace_id: UUID, upload_id: UUID) -> UploadSession:
        with database_errors():
            session = await sessions.find(self._pool, workspace_id, upload_id)
        if session is None:
            raise not_found()
        return session

    async def _repeated(self, workspace_id: UUID, upload_id: UUID, sha256: str) -> UploadProgress:
        """The answer to a commit that succeeded before."""
        with database_errors():
            file = await uploads.find(self._pool, workspace_id, upload_id)
        if file is None:
            raise not_found()
        if file.sha256.hex() != sha256.lower():
            raise _wrong_checksum()
        return _committed(file)


class _ChunkWriter:
    """Collects up to 1 MiB, and stores it where the stored bytes end."""

    def __init__(self, pool: Pool, session: UploadSession, check: Check) -> None:
        self._pool = pool
        self._session = session
        self._check = check
        self._committed = session.committed_bytes
        self._buffer = bytearray()

    async def add(self, data: bytes) -> None:
        size = self._session.size
        if self._committed + len(self._buffer) + len(data) > size:
            raise Invalid(f"more bytes than the {size} that were announced", field="body")
        self._buffer += data
        if len(self._buffer) >= CHUNK_BYTES:
            await self.flush()

    async def flush(self) -> None:
        if not self._buffer:
            return
        self._check()
        data = bytes(self._buffer)
        self._buffer.clear()
        with database_errors():
            stored = await sessions.write(
                self._pool,
                self._session.workspace_id,
                self._session.upload_id,
                self._committed,
                data,
            )
        if not stored:
            raise _offset_mismatch(self._committed)
        self._committed += len(data)


def _unfinished(session: UploadSession) -> UploadProgress:
    return UploadProgress(
        session.upload_id,
        session.filename,
        session.size,
        session.committed_bytes,
        session.expires_at,
    )


def _committed(file: StoredFile) -> UploadProgress:
    told = uploaded_file(file.workspace_id, file.draft)
    return UploadProgress(file.file_id, file.filename, file.size, file.size, file.expires_at, told)


def _incomplete(session: UploadSession) -> Aborted:
    return Aborted(
        f"{session.committed_bytes} of {session.size} bytes are there",
        reason="UPLOAD_INCOMPLETE",
        metadata={
            "committed_bytes": str(session.committed_bytes),
            "size": str(session.size),
        },
    )


def _offset_mismatch(committed: int) -> Aborted:
    return Aborted(
        f"{committed} bytes are stored: go on from there",
        reason="OFFSET_MISMATCH",
        metadata={"committed_bytes": str(committed)},
        body={"committed_bytes": committed},
    )


def _mismatch() -> Aborted:
    return Aborted("this request id was used for another file", reason="IDEMPOTENCY_MISMATCH")


def _wrong_checksum() -> Invalid:
    return Invalid("the bytes do not have this SHA-256", field="sha256", reason="CHECKSUM_MISMATCH")
