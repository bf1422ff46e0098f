"""The stores of bytes of this installation: the one for new files, and those that hold old ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from molecule_grpc.db.pool import Pool
from molecule_grpc.settings.settings import Settings
from molecule_grpc.upload.blobs.port import BlobStore
from molecule_grpc.upload.blobs.postgres import PostgresBlobs
from molecule_grpc.upload.blobs.s3 import S3Blobs
from molecule_grpc.upload.refusals import store_unavailable

OFF = "off"


@dataclass(frozen=True, slots=True)
class Stores:
    """Stores by name.

    Args:
        active: takes new files; None when this installation stages none.
    """

    active: BlobStore | None
    by_name: Mapping[str, BlobStore]
    s3: S3Blobs | None = None

    @classmethod
    def of(cls, pool: Pool, settings: Settings) -> Self:
        """Those that the settings name. Postgres is always there: uploads in steps begin in it."""
        postgres = PostgresBlobs(pool)
        by_name: dict[str, BlobStore] = {postgres.name: postgres}
        s3 = S3Blobs(pool, settings) if settings.upload.s3_bucket else None
        if s3 is not None:
            by_name[s3.name] = s3
        return cls(by_name.get(settings.upload.store), by_name, s3)

    def holding(self, storage: str) -> BlobStore:
        """The store that holds a file.

        Raises:
            Unavailable: the settings no longer name it.
        """
        found = self.by_name.get(storage)
        if found is None:
            raise store_unavailable()
        return found

    async def close(self) -> None:
        """Let go of what they hold."""
        if self.s3 is not None:
            await self.s3.close()
