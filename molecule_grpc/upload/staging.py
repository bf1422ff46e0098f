"""Stores the files of one request for an agent that reads its inbox, within the limits."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool, database_errors
from molecule_grpc.kernel.budget import Turns
from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.upload.blobs.port import BlobBatch, BlobStore
from molecule_grpc.upload.intake import FileEvent, FileHead, stalled
from molecule_grpc.upload.names import clean_media_type, clean_name
from molecule_grpc.upload.ports import Check
from molecule_grpc.upload.publishing import Publisher, require_same, uploaded_file
from molecule_grpc.upload.rules import UploadLimits, body_too_large, too_large, too_many_files
from molecule_grpc.upload.store.targets import UploadTarget
from molecule_grpc.upload.store.uploads import UploadDraft
from molecule_grpc.upload.values import UploadedFile

_REQUEST_SECONDS = 1200.0


class Staging:
    """Stages files.

    Args:
        turns: lets so many requests stage at the same time: each holds a few MiB.
    """

    def __init__(
        self,
        pool: Pool,
        blobs: BlobStore,
        publisher: Publisher,
        limits: UploadLimits,
        turns: Turns,
    ) -> None:
        self._pool = pool
        self._blobs = blobs
        self._publisher = publisher
        self._limits = limits
        self._turns = turns

    async def stage(
        self,
        target: UploadTarget,
        request_id: str,
        events: AsyncIterator[FileEvent],
        check: Check,
    ) -> list[UploadedFile]:
        """Store the files that arrive, and announce them when all of them are stored.

        Args:
            request_id: a repeat with the same one is answered like the first; empty for none.
            check: asked right before the commit.

        Raises:
            Invalid: a file is empty, too large, or other than announced; or there are none.
            Exhausted: RESOURCE_EXHAUSTED (no turn for 30 s), UPLOAD_QUOTA_EXCEEDED or INBOX_FULL.
            Aborted: UPLOAD_STALLED (the request took 20 minutes) or IDEMPOTENCY_MISMATCH.
            Unavailable: the store or the database cannot be reached.
        """
        async with self._turns.turn(organization=target.organization_id):
            with database_errors():
                known: list[UploadDraft] = []
                if request_id:
                    known = await self._publisher.known(target.id, request_id)
                if not known:
                    await self._publisher.require_room(self._pool, target.id, 1, 1)
            try:
                async with asyncio.timeout(_REQUEST_SECONDS):
                    drafts = await self._take(target, request_id, events, known, check)
            except TimeoutError:
                raise stalled() from None
        return [uploaded_file(target.id, draft) for draft in drafts]

    async def _take(
        self,
        target: UploadTarget,
        request_id: str,
        events: AsyncIterator[FileEvent],
        known: list[UploadDraft],
        check: Check,
    ) -> list[UploadDraft]:
        # The bytes of a repeat are hashed, to compare them with the first time, and not kept.
        batches = _discarding() if known else self._blobs.batch()
        async with batches as batch:
            receiver = _Receiver(self._limits, batch)
            async for event in events:
                await receiver.take(event)
            drafts = await receiver.finish()
            if known:
                require_same(known, drafts)
                return known
            # The store may take seconds: no transaction waits for it.
            await batch.flush()
            return await self._publisher.publish(
                target, drafts, request_id or None, batch.settle, check
            )


class _Receiver:
    """Passes the bytes of a request on to the store, and counts and hashes them."""

    def __init__(self, limits: UploadLimits, batch: BlobBatch) -> None:
        self._limits = limits
        self._batch = batch
        self._drafts: list[UploadDraft] = []
        self._total = 0
        self._head: FileHead | None = None
        self._file_id = new_id()
        self._name = ""
        self._size = 0
        self._hash = hashlib.sha256()

    async def take(self, event: FileEvent) -> None:
        """Begin a file, or add to the file that began last."""
        if isinstance(event, FileHead):
            await self._end_file()
            await self._begin_file(event)
        else:
            await self._add(event)

    async def finish(self) -> list[UploadDraft]:
        """End the last file; all files of the request.

        Raises:
            Invalid: the request brought no file.
        """
        await self._end_file()
        if not self._drafts:
            raise Invalid("no files in request", field="files")
        return self._drafts

    async def _begin_file(self, head: FileHead) -> None:
        if len(self._drafts) >= self._limits.files:
            raise too_many_files(self._limits)
        self._head = head
        self._file_id = new_id()
        self._name = clean_name(head.name)
        self._size = 0
        self._hash = hashlib.sha256()
        if head.size is not None and head.size > self._limits.per_file:
            raise too_large(self._name, head.size, self._limits.per_file)
        await self._batch.begin(self._file_id)

    async def _add(self, data: bytes) -> None:
        self._size += len(data)
        self._total += len(data)
        if self._size > self._limits.per_file:
            raise too_large(self._name, self._size, self._limits.per_file)
        if self._total > self._limits.per_request:
            raise body_too_large(self._limits.per_request)
        self._hash.update(data)
        await self._batch.write(data)

    async def _end_file(self) -> None:
        if self._head is None:
            return
        digest = self._hash.digest()
        if self._size == 0:
            raise Invalid(f"file is empty: {self._name}", field="files")
        if self._head.size not in (None, self._size):
            raise _not_as_announced(f"{self._name} has {self._size} bytes, not {self._head.size}")
        if self._head.sha256 not in ("", digest.hex()):
            raise _not_as_announced(f"{self._name} does not have the SHA-256 that was announced")
        await self._batch.end()
        media_type = clean_media_type(self._head.mime_type)
        self._drafts.append(UploadDraft(self._file_id, self._name, media_type, self._size, digest))
        self._head = None


def _not_as_announced(message: str) -> Invalid:
    return Invalid(message, field="files", reason="CHECKSUM_MISMATCH")


class _Discard:
    """A batch that keeps nothing, for the bytes of a repeat."""

    async def begin(self, blob_id: UUID) -> None: ...

    async def write(self, data: bytes) -> None: ...

    async def end(self) -> None: ...

    async def flush(self) -> None: ...

    async def settle(self, conn: Connection) -> None: ...


def _discarding() -> AbstractAsyncContextManager[BlobBatch]:
    return contextlib.nullcontext(_Discard())
