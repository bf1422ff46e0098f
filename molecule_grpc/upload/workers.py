"""Lets go of files that were acknowledged or expired, and deletes bytes that nobody owns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

import structlog

from molecule_grpc.db.pool import Pool
from molecule_grpc.upload.blobs.port import BlobStore
from molecule_grpc.upload.metrics import SWEPT
from molecule_grpc.upload.rules import retention_seconds
from molecule_grpc.upload.store import loose, uploads
from molecule_grpc.upload.stores import Stores

log = structlog.get_logger("molecule_grpc.upload")

_FILES_AT_ONCE = 1000
_BLOBS_AT_ONCE = 20
# An agent may have begun to read a file just before it expired.
_GRACE = timedelta(minutes=10)
_ORPHAN_AGE = timedelta(hours=24)


class Swept(NamedTuple):
    """How many files left."""

    acked: int
    expired: int


class Sweeper:
    """Sweeps. Several may at once: each takes what the others have not locked.

    Args:
        ack_retention: seconds for which acknowledged files stay; None means an hour, and a
            negative number means zero.
    """

    def __init__(self, pool: Pool, stores: Stores, ack_retention: float | None) -> None:
        self._pool = pool
        self._stores = stores
        self._ack_retention = timedelta(seconds=retention_seconds(ack_retention))

    async def sweep(self) -> Swept:
        """Let go of what is due, then delete bytes."""
        try:
            swept = await self._let_go()
            for store in self._stores.by_name.values():
                await self._delete(store)
        except Exception:
            SWEPT["error"].inc()
            raise
        return swept

    async def sweep_orphans(self) -> None:
        """Delete objects that the database does not know."""
        for store in self._stores.by_name.values():

            async def known(blob_ids: Sequence[UUID], storage: str = store.name) -> set[UUID]:
                return await loose.known(self._pool, storage, blob_ids)

            if swept := await store.sweep_orphans(known, _ORPHAN_AGE):
                log.warning("orphaned blobs deleted", storage=store.name, blobs=swept)

    async def _let_go(self) -> Swept:
        counts = {"acked": 0, "expired": 0}
        while True:
            rows = await uploads.sweep(
                self._pool, self._ack_retention, _GRACE, limit=_FILES_AT_ONCE
            )
            for row in rows:
                counts[row["outcome"]] += 1
                SWEPT[row["outcome"]].inc()
                log.info(
                    "upload swept",
                    outcome=row["outcome"],
                    workspace_id=str(row["workspace_id"]),
                    file_id=str(row["file_id"]),
                    name=row["filename"],
                    size=row["size_bytes"],
                )
            if len(rows) < _FILES_AT_ONCE:
                return Swept(**counts)

    async def _delete(self, store: BlobStore) -> None:
        """Delete the bytes that are due. Whoever would own them after all waits, and loses."""
        while True:
            async with self._pool.acquire() as conn, conn.transaction():
                due = await loose.take_due(conn, store.name, limit=_BLOBS_AT_ONCE)
                if due:
                    await store.delete(due)
            if len(due) < _BLOBS_AT_ONCE:
                return
