"""Files that are written in several steps: a broken connection costs only what was on its way."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import asyncpg
from google.protobuf.timestamp_pb2 import Timestamp
from moleculeai.upload.v1 import upload_pb2
from moleculeai.upload.v1 import upload_service_pb2 as pb

from molecule_grpc.db.pool import Connection, Pool, database_errors
from molecule_grpc.kernel.errors import Aborted, Invalid
from molecule_grpc.kernel.ids import new_id, parse_id
from molecule_grpc.settings.settings import Settings
from molecule_grpc.upload.blobs.port import BlobStore
from molecule_grpc.upload.blobs.postgres import CHUNK_BYTES, PostgresBlobs
from molecule_grpc.upload.names import clean_media_type, clean_name
from molecule_grpc.upload.publishing import Publisher, draft_of, facts
from molecule_grpc.upload.refusals import not_found
from molecule_grpc.upload.rules import Limits, too_large
from molecule_grpc.upload.store import sessions, uploads
from molecule_grpc.upload.store.targets import Target
from molecule_grpc.upload.store.uploads import UploadDraft


class Resumable:
    """Keeps what arrives, chunk by chunk, until the file is whole.

    The chunks are Postgres's, whichever store the file ends up in: any length can be resumed at,
    which the parts of S3 do not allow.
    """

    def __init__(
        self,
        pool: Pool,
        blobs: BlobStore,
        publisher: Publisher,
        limits: Limits,
        settings: Settings,
    ) -> None:
        self._pool = pool
        self._blobs = blobs
        self._chunks = PostgresBlobs(pool)
        self._publisher = publisher
        self._limits = limits
        self._ttl = timedelta(seconds=settings.upload.ttl)

    async def start(self, target: Target, request: pb.StartUploadRequest) -> upload_pb2.Upload:
        """Begin a file, or find the one that this request began."""
        name = clean_name(request.name)
        if request.size > self._limits.per_file:
            raise too_large(name, request.size, self._limits.per_file)
        request_id = request.request_id or None
        with database_errors():
            async with self._pool.acquire() as conn, conn.transaction():
                await uploads.lock(conn, target.id)
                if request_id and (found := await self._begun(conn, target.id, request_id)):
                    if (found.name, found.size) != (name, request.size):
                        raise _mismatch()
                    return found
                await self._publisher.require_room(conn, target.id, 1, request.size)
                row = await sessions.start(
                    conn,
                    new_id(),
                    workspace_id=target.id,
                    organization_id=target.organization_id,
                    filename=name,
                    mimetype=clean_media_type(request.mime_type),
                    size=request.size,
                    request_id=request_id,
                    ttl=self._ttl,
                )
        return _open_upload(row)

    async def write(self, requests: AsyncIterator[pb.WriteUploadRequest]) -> upload_pb2.Upload:
        """Add bytes. They are stored a chunk at a time, also when the rest never comes."""
        first = await anext(requests)
        workspace_id = parse_id(first.workspace_id, "workspace_id")
        upload_id = parse_id(first.upload_id, "upload_id")
        row = await self._require(workspace_id, upload_id)
        if first.offset != row["committed_bytes"]:
            raise _offset_mismatch(row["committed_bytes"])
        writing = _Writing(self._pool, row)
        try:
            await writing.add(first.body.data)
            async for request in requests:
                await writing.add(request.body.data)
        finally:
            # Also when the client has gone: that is what this is for.
            await writing.flush()
        return _open_upload(await self._require(workspace_id, upload_id))

    async def get(self, workspace_id: UUID, upload_id: UUID) -> upload_pb2.Upload:
        """How far it is."""
        with database_errors():
            row = await sessions.find(self._pool, workspace_id, upload_id)
            if row is not None:
                return _open_upload(row)
            done = await uploads.find(self._pool, workspace_id, upload_id)
        if done is None:
            raise not_found()
        return _committed(done)

    async def commit(self, target: Target, upload_id: UUID, sha256: str) -> upload_pb2.Upload:
        """Make the file visible, if its bytes are all there and the right ones."""
        with database_errors():
            row = await sessions.find(self._pool, target.id, upload_id)
        if row is None:
            return await self._repeated(target.id, upload_id, sha256)
        if row["committed_bytes"] != row["size_bytes"]:
            raise Aborted(
                f"{row['committed_bytes']} of {row['size_bytes']} bytes are there",
                reason="UPLOAD_INCOMPLETE",
                metadata={
                    "committed_bytes": str(row["committed_bytes"]),
                    "size": str(row["size_bytes"]),
                },
            )
        async with self._blobs.batch() as batch:
            moving = self._blobs.name != PostgresBlobs.name
            digest = hashlib.sha256()
            if moving:
                await batch.begin(upload_id)
            async for piece in self._chunks.read(upload_id, 0, row["size_bytes"]):
                digest.update(piece)
                if moving:
                    await batch.write(piece)
            if digest.hexdigest() != sha256.lower():
                with database_errors():
                    await sessions.drop(self._pool, upload_id)
                raise Invalid(
                    "the bytes do not have this SHA-256", field="sha256", reason="CHECKSUM_MISMATCH"
                )
            if moving:
                await batch.end()

            async def settle(conn: Connection) -> None:
                await batch.settle(conn)
                ended = sessions.drop if moving else sessions.take
                if not await ended(conn, upload_id):
                    raise Aborted("the upload was committed or given up at the same moment")

            draft = UploadDraft(
                upload_id, row["filename"], row["mimetype"], row["size_bytes"], digest.digest()
            )
            await self._publisher.publish(target, [draft], row["request_id"], settle)
        return await self.get(target.id, upload_id)

    async def _begun(
        self, conn: Connection, workspace_id: UUID, request_id: str
    ) -> upload_pb2.Upload | None:
        row = await sessions.of_request(conn, workspace_id, request_id)
        if row is not None:
            return _open_upload(row)
        done = await uploads.of_request(conn, workspace_id, request_id)
        return _committed(done[0]) if done else None

    async def _require(self, workspace_id: UUID, upload_id: UUID) -> asyncpg.Record:
        with database_errors():
            row = await sessions.find(self._pool, workspace_id, upload_id)
        if row is None:
            raise not_found()
        return row

    async def _repeated(
        self, workspace_id: UUID, upload_id: UUID, sha256: str
    ) -> upload_pb2.Upload:
        with database_errors():
            done = await uploads.find(self._pool, workspace_id, upload_id)
        if done is None:
            raise not_found()
        if done["sha256"].hex() != sha256.lower():
            raise Invalid(
                "the bytes do not have this SHA-256", field="sha256", reason="CHECKSUM_MISMATCH"
            )
        return _committed(done)


class _Writing:
    """Collects up to 1 MiB, and stores it where the stored bytes end."""

    def __init__(self, pool: Pool, row: asyncpg.Record) -> None:
        self._pool = pool
        self._workspace_id = row["workspace_id"]
        self._upload_id = row["upload_id"]
        self._size = row["size_bytes"]
        self._committed = row["committed_bytes"]
        self._buffer = bytearray()

    async def add(self, data: bytes) -> None:
        if self._committed + len(self._buffer) + len(data) > self._size:
            raise Invalid(f"more bytes than the {self._size} that were announced", field="body")
        self._buffer += data
        if len(self._buffer) >= CHUNK_BYTES:
            await self.flush()

    async def flush(self) -> None:
        if not self._buffer:
            return
        data = bytes(self._buffer)
        self._buffer.clear()
        with database_errors():
            stored = await sessions.write(
                self._pool, self._workspace_id, self._upload_id, self._committed, data
            )
        if not stored:
            raise _offset_mismatch(self._committed)
        self._committed += len(data)


def _offset_mismatch(committed: int) -> Aborted:
    return Aborted(
        f"{committed} bytes are stored: go on from there",
        reason="OFFSET_MISMATCH",
        metadata={"committed_bytes": str(committed)},
        body={"committed_bytes": committed},
    )


def _mismatch() -> Aborted:
    return Aborted("this request id was used for another file", reason="IDEMPOTENCY_MISMATCH")


def _open_upload(row: asyncpg.Record) -> upload_pb2.Upload:
    return upload_pb2.Upload(
        upload_id=str(row["upload_id"]),
        name=row["filename"],
        size=row["size_bytes"],
        committed_bytes=row["committed_bytes"],
        expires_at=_timestamp(row),
    )


def _committed(row: asyncpg.Record) -> upload_pb2.Upload:
    told = facts(row["workspace_id"], draft_of(row))
    return upload_pb2.Upload(
        upload_id=str(row["file_id"]),
        name=row["filename"],
        size=row["size_bytes"],
        committed_bytes=row["size_bytes"],
        expires_at=_timestamp(row),
        file=upload_pb2.UploadedFile(
            uri=str(told["uri"]),
            name=row["filename"],
            mime_type=row["mimetype"],
            size=row["size_bytes"],
        ),
    )


def _timestamp(row: asyncpg.Record) -> Timestamp:
    moment = Timestamp()
    moment.FromDatetime(row["expires_at"])
    return moment
