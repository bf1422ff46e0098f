"""Where the bytes of files live: what every store of them can do.

A blob is written through a batch and has no owner until `settle` ran in the transaction that gives
it one. What never gets an owner, or loses it, is a row of `loose_blobs`; the sweep deletes it when
it is due. So a crash at any point leaves nothing visible and nothing for ever.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Final, Protocol
from uuid import UUID

from molecule_grpc.db.pool import Connection

# How long a blob may be in the making: longer than any request.
MAKING: Final = timedelta(hours=1)

Owned = Callable[[Sequence[UUID]], Awaitable[set[UUID]]]


class Batch(Protocol):
    """The blobs of one request, one after the other."""

    async def begin(self, blob_id: UUID) -> None:
        """The next bytes are this blob's."""

    async def write(self, data: bytes) -> None:
        """More of the blob. Waits while too much is on its way to the store.

        Raises:
            Unavailable: UPLOAD_STORE_UNAVAILABLE or DATABASE_UNAVAILABLE.
        """

    async def end(self) -> None:
        """The blob is complete."""

    async def settle(self, conn: Connection) -> None:
        """Take every blob out of `loose_blobs`, in the transaction that gives them owners.

        Raises:
            Unavailable: they took too long, and were given up.
        """


class BlobStore(Protocol):
    """A place for bytes. Every method may raise `Unavailable`."""

    @property
    def name(self) -> str:
        """What the column `storage` calls it."""

    def batch(self) -> AbstractAsyncContextManager[Batch]:
        """Write some blobs. Leaving without `settle` leaves them to the sweep."""

    def read(self, blob_id: UUID, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `stop`, in pieces.

        Raises:
            NotFound: UPLOAD_NOT_FOUND: they are gone, maybe in the midst of it.
        """

    async def delete(self, blob_ids: Sequence[UUID]) -> None:
        """Delete blobs. Repeating it, or deleting what is not there, is harmless."""

    async def sweep_orphans(self, owned: Owned, older_than: timedelta) -> int:
        """Delete what nothing in the database knows; how many blobs.

        Args:
            owned: tells which of some blobs are known.
            older_than: spares what is younger.
        """
