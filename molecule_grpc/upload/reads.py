"""Lets an agent list, read and acknowledge the files that wait for it."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from datetime import datetime
from typing import cast
from uuid import UUID

import structlog

from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.kernel.page import Page, page_of
from molecule_grpc.kernel.page_tokens import PageTokens
from molecule_grpc.upload import rules
from molecule_grpc.upload.blobs.stores import BlobStores
from molecule_grpc.upload.metrics import FETCHED
from molecule_grpc.upload.names import OCTET_STREAM, content_disposition
from molecule_grpc.upload.refusals import not_found
from molecule_grpc.upload.store import uploads
from molecule_grpc.upload.store.uploads import StoredFile
from molecule_grpc.upload.values import Acknowledgement, Conditions, Download

log = structlog.get_logger("molecule_grpc.upload")

PIECE_BYTES = 256 * 1024

_LISTED = 1000
_LISTING = "pending-uploads"
# Ids, times and numbers of a listed file.
_FIXED_BYTES = 300

_PARTIAL_CONTENT = 206
_MISMATCH_BODY = b'{"error":"If-Match names no version of the file"}'
_UNCONDITIONAL = Conditions()


class UploadReads:
    """Serves staged files to their agents.

    Args:
        after_ack: whether a file stays readable from its acknowledgement until it is swept.
    """

    def __init__(
        self, pool: Pool, stores: BlobStores, page_tokens: PageTokens, *, after_ack: bool
    ) -> None:
        self._pool = pool
        self._page_tokens = page_tokens
        self._stores = stores
        self._after_ack = after_ack

    async def waiting(self, workspace_id: UUID, *, limit: int, page_token: str) -> Page[StoredFile]:
        """The files that are neither acknowledged nor expired, oldest first, in a page of 3 MiB.

        Args:
            limit: most files of the page; 0 means 1000.
            page_token: from the page before; empty for the first page.

        Raises:
            Invalid: the page token is not one of ours.
        """
        parts = self._page_tokens.read(_LISTING, page_token, datetime, int, UUID)
        place = None if parts is None else cast("uploads.Place", tuple(parts))
        limit = limit or _LISTED
        with database_errors():
            files = await uploads.waiting(self._pool, workspace_id, after=place, limit=limit + 1)
        return page_of(files, limit=limit, size=_wire_bytes)

    def token_after(self, file: StoredFile) -> str:
        """The token of the page of `waiting` that begins behind a file."""
        return self._page_tokens.make(_LISTING, file.created_at, file.position, file.file_id)

    async def open(
        self,
        workspace_id: UUID,
        file_id: UUID,
        *,
        offset: int = 0,
        length: int = 0,
        conditions: Conditions = _UNCONDITIONAL,
    ) -> Download:
        """A file, or the part of it that the arguments name.

        A file that the conditions rule out comes without bytes, with status 304 or 412.

        Args:
            offset: first byte; with `length` it wins over a range of the conditions.
            length: bytes from there; 0 means all that follow.

        Raises:
            NotFound: UPLOAD_NOT_FOUND; also while its pieces are read, when the bytes are gone.
            OutOfRange: RANGE_NOT_SATISFIABLE.
            Unavailable: UPLOAD_STORE_UNAVAILABLE.
        """
        with database_errors():
            file = await uploads.readable(
                self._pool, workspace_id, file_id, after_ack=self._after_ack
            )
        if file is None:
            FETCHED["missing"].inc()
            raise not_found()
        refused = rules.unmet(_etag(file), conditions)
        if refused is not None or conditions.head:
            return _without_bytes(file, refused)
        start, stop = _wanted(file, offset, length, conditions)
        return Download(
            content_type=file.mimetype or OCTET_STREAM,
            headers=_headers(file, start, stop),
            pieces=self._pieces(file, start, stop),
            http_status=_PARTIAL_CONTENT if stop - start < file.size else None,
        )

    async def ack(self, workspace_id: UUID, file_id: UUID) -> Acknowledgement:
        """The agent has the file safely: it is not readable from now on, and soon gone.

        Raises:
            NotFound: UPLOAD_NOT_FOUND.
        """
        with database_errors():
            acked = await uploads.ack(self._pool, workspace_id, file_id)
        if acked is None:
            raise not_found()
        log.info(
            "upload acked",
            workspace_id=str(workspace_id),
            file_id=str(file_id),
            name=acked.filename,
            size=acked.size,
            again=bool(acked.already),
        )
        return Acknowledgement(already_acked=bool(acked.already), raced=acked.already is None)

    async def _pieces(self, file: StoredFile, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """The bytes, counted and logged at their end, whatever ends them."""
        store = self._stores.holding(file.storage)
        outcome = "broken"
        begun = time.perf_counter()
        try:
            async for piece in store.read(file.file_id, start, stop):
                for at in range(0, len(piece), PIECE_BYTES):
                    yield piece[at : at + PIECE_BYTES]
            outcome = "whole" if stop - start == file.size else "part"
        finally:
            FETCHED[outcome].inc()
            log.info(
                "upload fetched" if outcome != "broken" else "upload not fetched to its end",
                workspace_id=str(file.workspace_id),
                file_id=str(file.file_id),
                name=file.filename,
                size=stop - start,
                seconds=round(time.perf_counter() - begun, 3),
            )
        if stop == file.size:
            await self._mark_fetched(file)

    async def _mark_fetched(self, file: StoredFile) -> None:
        """Note the time. A failure is only logged: the reader has the file already."""
        try:
            await uploads.mark_fetched(self._pool, file.file_id)
        except Exception as error:  # noqa: BLE001
            log.warning("fetch not noted", file_id=str(file.file_id), error=type(error).__name__)


def _wire_bytes(file: StoredFile) -> int:
    """About how much room a listed file takes in an answer."""
    return _FIXED_BYTES + len(file.filename) + len(file.mimetype.encode())


def _wanted(file: StoredFile, offset: int, length: int, conditions: Conditions) -> tuple[int, int]:
    if offset or length:
        return rules.part(offset, length, file.size)
    wanted = None
    if conditions.byte_range and conditions.if_range in (None, _etag(file)):
        wanted = rules.parse_range(conditions.byte_range, file.size)
    return wanted or (0, file.size)


def _without_bytes(file: StoredFile, status: int | None) -> Download:
    """The headers of a whole file; with status 412 an error instead."""
    mismatch = status == rules.MISMATCH

    async def pieces() -> AsyncGenerator[bytes, None]:
        yield _MISMATCH_BODY if mismatch else b""

    if mismatch:
        headers = {"x-content-length": str(len(_MISMATCH_BODY))}
        return Download("application/json", headers, pieces(), http_status=status)
    return Download(
        file.mimetype or OCTET_STREAM, _headers(file, 0, file.size), pieces(), http_status=status
    )


def _headers(file: StoredFile, start: int, stop: int) -> dict[str, str]:
    headers = {
        "content-disposition": content_disposition(file.filename),
        # The edge turns this into the content length, which a stream cannot state.
        "x-content-length": str(stop - start),
        "accept-ranges": "bytes",
        "etag": _etag(file),
        # A proxy that compresses a part of a file would break the download's resumption.
        "cache-control": "private, no-transform",
    }
    if stop - start < file.size:
        headers["content-range"] = f"bytes {start}-{stop - 1}/{file.size}"
    return headers


def _etag(file: StoredFile) -> str:
    return f'"{file.sha256.hex()}"'
