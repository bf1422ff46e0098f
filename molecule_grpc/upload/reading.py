"""What agents do with files that wait for them: list, read, acknowledge."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import structlog
from google.api import httpbody_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from moleculeai.upload.v1 import upload_pb2
from moleculeai.upload.v1 import upload_service_pb2 as pb

from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.server.call import Call
from molecule_grpc.settings.settings import Settings
from molecule_grpc.upload import rules
from molecule_grpc.upload.metrics import FETCHED
from molecule_grpc.upload.names import OCTET_STREAM, content_disposition
from molecule_grpc.upload.publishing import uri
from molecule_grpc.upload.refusals import not_found
from molecule_grpc.upload.store import uploads
from molecule_grpc.upload.stores import Stores

log = structlog.get_logger("molecule_grpc.upload")

FRAME_BYTES = 256 * 1024
_PARTIAL_CONTENT = 206


class UploadReads:
    """Serves staged files to their agents."""

    def __init__(self, pool: Pool, stores: Stores, settings: Settings) -> None:
        self._pool = pool
        self._stores = stores
        self._after_ack = settings.upload.read_after_ack

    async def list(self, request: pb.ListPendingUploadsRequest) -> pb.ListPendingUploadsResponse:
        """Files that wait, oldest first."""
        with database_errors():
            rows = await uploads.waiting(self._pool, UUID(request.workspace_id))
        return pb.ListPendingUploadsResponse(files=[_pending(row) for row in rows])

    async def content(
        self, request: pb.GetUploadContentRequest, call: Call
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """A file, or a part of it."""
        workspace_id, file_id = UUID(request.workspace_id), UUID(request.file_id)
        with database_errors():
            row = await uploads.readable(
                self._pool, workspace_id, file_id, after_ack=self._after_ack
            )
        if row is None:
            FETCHED["missing"].inc()
            raise not_found()
        start, stop = _part(request, call, row)
        _dress(call, row, start, stop)
        store = self._stores.holding(row["storage"])
        outcome = "broken"
        begun = time.perf_counter()
        try:
            async for piece in store.read(file_id, start, stop):
                for at in range(0, len(piece), FRAME_BYTES):
                    yield httpbody_pb2.HttpBody(
                        content_type=row["mimetype"] or OCTET_STREAM,
                        data=piece[at : at + FRAME_BYTES],
                    )
            outcome = "whole" if stop - start == row["size_bytes"] else "part"
        finally:
            FETCHED[outcome].inc()
            log.info(
                "upload fetched" if outcome != "broken" else "upload not fetched to its end",
                workspace_id=str(workspace_id),
                file_id=str(file_id),
                name=row["filename"],
                size=stop - start,
                seconds=round(time.perf_counter() - begun, 3),
            )
        if stop == row["size_bytes"]:
            await self._mark_fetched(row)

    async def ack(self, request: pb.AckUploadRequest) -> pb.AckUploadResponse:
        """The agent has the file."""
        with database_errors():
            acked = await uploads.ack(self._pool, UUID(request.workspace_id), UUID(request.file_id))
        if acked is None:
            raise not_found()
        raced = acked.already is None
        log.info(
            "upload acked",
            workspace_id=request.workspace_id,
            file_id=request.file_id,
            name=acked.filename,
            size=acked.size,
            again=bool(acked.already),
        )
        response = pb.AckUploadResponse(acked=True, already_acked=bool(acked.already))
        if raced:
            response.raced = True
        return response

    async def _mark_fetched(self, row: asyncpg.Record) -> None:
        """The file was sent: what goes wrong here does not concern its reader."""
        try:
            await uploads.mark_fetched(self._pool, row["file_id"])
        except Exception as error:  # noqa: BLE001
            log.warning("fetch not noted", file_id=str(row["file_id"]), error=type(error).__name__)


def _part(request: pb.GetUploadContentRequest, call: Call, row: asyncpg.Record) -> tuple[int, int]:
    """First byte and end of what is asked for."""
    size: int = row["size_bytes"]
    if request.offset or request.length:
        return rules.part(request.offset, request.length, size)
    header = call.metadata.get("range", "")
    unchanged = call.metadata.get("if-range", _etag(row)) == _etag(row)
    wanted = rules.parse_range(header, size) if header and unchanged else None
    return wanted or (0, size)


def _dress(call: Call, row: asyncpg.Record, start: int, stop: int) -> None:
    """Headers of a download."""
    size = row["size_bytes"]
    call.headers |= {
        "content-disposition": content_disposition(row["filename"]),
        # The edge makes it the content length, which a stream cannot state.
        "x-content-length": str(stop - start),
        "accept-ranges": "bytes",
        "etag": _etag(row),
        # A part of a file must not be packed on the way.
        "cache-control": "private, no-transform",
    }
    if stop - start < size:
        call.headers["content-range"] = f"bytes {start}-{stop - 1}/{size}"
        if call.rest:
            call.set_http_status(_PARTIAL_CONTENT)


def _etag(row: asyncpg.Record) -> str:
    return f'"{row["sha256"].hex()}"'


def _pending(row: asyncpg.Record) -> upload_pb2.PendingUpload:
    pending = upload_pb2.PendingUpload(
        file_id=str(row["file_id"]),
        workspace_id=str(row["workspace_id"]),
        uri=uri(row["workspace_id"], row["file_id"]),
        name=row["filename"],
        mime_type=row["mimetype"],
        size=row["size_bytes"],
        sha256=row["sha256"].hex(),
    )
    for name in ("created_at", "fetched_at", "expires_at"):
        if row[name] is not None:
            moment: Timestamp = getattr(pending, name)
            moment.FromDatetime(row[name])
    return pending
