"""The blob stores of this installation: one takes new files, others may still hold older ones."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from molecule_grpc.db.pool import Pool
from molecule_grpc.settings.upload import UploadSettings
from molecule_grpc.upload.blobs.port import BlobStore
from molecule_grpc.upload.blobs.postgres import PostgresBlobs
from molecule_grpc.upload.refusals import store_unavailable

if TYPE_CHECKING:
    from molecule_grpc.upload.blobs.s3 import S3Blobs


@dataclass(frozen=True, slots=True)
class BlobStores:
    """Stores by the name that the column `storage` holds.

    Args:
        active: takes new files; None when this installation stages none.
        may_have_orphans: whether a store can hold blobs that the database does not know.
    """

    active: BlobStore | None
    by_name: Mapping[str, BlobStore]
    may_have_orphans: bool

    def holding(self, storage: str) -> BlobStore:
        """The store that holds a file.

        Raises:
            Unavailable: UPLOAD_STORE_UNAVAILABLE: the settings no longer name this store.
        """
        found = self.by_name.get(storage)
        if found is None:
            raise store_unavailable()
        return found


@contextlib.asynccontextmanager
async def open_blob_stores(pool: Pool, settings: UploadSettings) -> AsyncIterator[BlobStores]:
    """The stores that the settings name, open while inside.

    Postgres is always among them: resumable uploads begin there.
    """
    postgres = PostgresBlobs(pool)
    by_name: dict[str, BlobStore] = {postgres.name: postgres}
    s3 = _s3(pool, settings) if settings.s3_bucket else None
    if s3 is not None:
        by_name[s3.name] = s3
    try:
        yield BlobStores(by_name.get(settings.store), by_name, may_have_orphans=s3 is not None)
    finally:
        if s3 is not None:
            await s3.close()


def _s3(pool: Pool, settings: UploadSettings) -> S3Blobs:
    # boto3 takes a sixth of a worker's start: imported only by an installation that uses S3.
    from molecule_grpc.upload.blobs.s3 import S3Blobs  # noqa: PLC0415

    return S3Blobs(pool, settings)
