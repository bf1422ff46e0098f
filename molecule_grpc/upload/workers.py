"""Deletes files that were acknowledged or expired, and bytes that no file owns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

import structlog

from molecule_grpc.db.pool import Pool
from molecule_grpc.db.sweep import in_batches
from molecule_grpc.upload.blobs.port import BlobStore
from molecule_grpc.upload.blobs.stores import BlobStores
from molecule_grpc.upload.metrics import SWEPT
from molecule_grpc.upload.rules import retention_seconds
from molecule_grpc.upload.store import loose, uploads

log = structlog.get_logger("molecule_grpc.upload")

_FILES_AT_ONCE = 1000
_BLOBS_AT_ONCE = 20
# An agent may have begun to read a file just before the file expired.
_GRACE = timedelta(minutes=10)
_ORPHAN_AGE = timedelta(hours=24)
# When bytes are tried again that a store did not delete, or whose sweep died.
_AGAIN = timedelta(minutes=10)


class SweepCounts(NamedTuple):
    """How many files a sweep deleted."""

    acked: int
    expired: int


class UploadSweeper:
    """Sweeps. Several workers may at once: each takes what the others have not locked.

    Args:
        ack_retention: seconds for which acknowledged files stay; None means an hour, and a
            negative number means zero.
    """

    def __init__(self, pool: Pool, stores: BlobStores, ack_retention: float | None) -> None:
        self._pool = pool
        self._stores = stores
        self._ack_retention = timedelta(seconds=retention_seconds(ack_retention))

    async def sweep(self) -> SweepCounts:
        """Delete due files, then due bytes."""
        try:
            counts = await self._delete_files()
            for store in self._stores.by_name.values():
                await self._delete_blobs(store)
        except Exception:
            SWEPT["error"].inc()
            raise
        return counts

    async def sweep_orphans(self) -> None:
        """Delete blobs of 24 hours and more that the database does not know."""
        for store in self._stores.by_name.values():

            async def known(blob_ids: Sequence[UUID], storage: str = store.name) -> set[UUID]:
                return await loose.known(self._pool, storage, blob_ids)

            if swept := await store.sweep_orphans(known, _ORPHAN_AGE):
                log.warning("orphaned blobs deleted", storage=store.name, blobs=swept)

    async def _delete_files(self) -> SweepCounts:
        counts: Counter[str] = Counter()

        async def step(limit: int) -> int:
            files = await uploads.sweep(self._pool, self._ack_retention, _GRACE, limit=limit)
            for file in files:
                counts[file.outcome] += 1
                SWEPT[file.outcome].inc()
                log.info(
                    "upload swept",
                    outcome=file.outcome,
                    workspace_id=str(file.workspace_id),
                    file_id=str(file.file_id),
                    name=file.filename,
                    size=file.size,
                )
            return len(files)

        await in_batches("uploads", step, batch=_FILES_AT_ONCE)
        return SweepCounts(counts["acked"], counts["expired"])

    async def _delete_blobs(self, store: BlobStore) -> None:
        """Delete the bytes that are due. A commit that would still own them fails."""

        async def step(limit: int) -> int:
            due = await loose.take_due(self._pool, store.name, limit=limit, again_in=_AGAIN)
            if due:
                kept = await store.delete(due)
                await loose.forget(self._pool, store.name, [one for one in due if one not in kept])
                if kept:
                    log.warning("blobs not deleted", storage=store.name, blobs=len(kept))
            return len(due)

        await in_batches(f"blobs in {store.name}", step, batch=_BLOBS_AT_ONCE)
