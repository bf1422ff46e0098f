"""What every store of file contents can do.

A blob is written through a batch, and has no owner until `settle` ran in the transaction that
inserts its file. A blob without an owner is a row of `loose_blobs`; the sweep deletes the blob when
the row is due. So a crash at any point leaves no half a file visible and no blob for ever.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Final, Protocol
from uuid import UUID

from molecule_grpc.db.pool import Connection

# A blob that is being written is due for the sweep after this time: longer than any request.
WRITE_LIMIT: Final = timedelta(hours=1)

# Which of these blobs the database knows.
KnownBlobs = Callable[[Sequence[UUID]], Awaitable[set[UUID]]]


class BlobBatch(Protocol):
    """Writes the blobs of one request, one after the other."""

    async def begin(self, blob_id: UUID) -> None:
        """Begin a blob: the next bytes belong to this one."""

    async def write(self, data: bytes) -> None:
        """Add to the blob. Waits while too many bytes are on their way to the store.

        Raises:
            Unavailable: UPLOAD_STORE_UNAVAILABLE or DATABASE_UNAVAILABLE.
        """

    async def end(self) -> None:
        """End the blob. The store may still be working on its last bytes."""

    async def flush(self) -> None:
        """Wait for what is on its way to the store: before the transaction of `settle` begins.

        Raises:
            Unavailable: UPLOAD_STORE_UNAVAILABLE or DATABASE_UNAVAILABLE.
        """

    async def settle(self, conn: Connection) -> None:
        """Take every blob out of `loose_blobs`, in the transaction that gives them owners.

        Raises:
            Unavailable: the sweep has given the blobs up, since they took over an hour.
            RuntimeError: the batch was not flushed.
        """


class BlobStore(Protocol):
    """Keeps blobs. Every method may raise `Unavailable`."""

    @property
    def name(self) -> str:
        """The name of this store in the column `storage`."""

    def batch(self) -> AbstractAsyncContextManager[BlobBatch]:
        """Write some blobs. Without `settle` they are left to the sweep."""

    def read(self, blob_id: UUID, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `stop`, in pieces.

        Raises:
            NotFound: UPLOAD_NOT_FOUND: the bytes are gone, maybe after some pieces.
        """

    async def delete(self, blob_ids: Sequence[UUID]) -> set[UUID]:
        """Delete blobs; those that the store would not delete. What is gone already is deleted."""

    async def sweep_orphans(self, known: KnownBlobs, older_than: timedelta) -> int:
        """Delete the blobs that the database does not know; how many.

        Args:
            older_than: blobs younger than this are spared.
        """
