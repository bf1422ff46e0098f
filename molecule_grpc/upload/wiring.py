"""The slice put together: its service, what runs beside it, and what a removal lets go of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from molecule_grpc.db.pool import Pool
from molecule_grpc.server.tasks import BackgroundTask
from molecule_grpc.settings.settings import Settings
from molecule_grpc.upload.ports import Announce, Wake
from molecule_grpc.upload.service import UploadService
from molecule_grpc.upload.stores import Stores
from molecule_grpc.upload.workers import Sweeper

_SWEEP_TIMEOUT_SECONDS = 30.0
_ORPHANS_EVERY_SECONDS = 6 * 3600.0
_ORPHANS_TIMEOUT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Uploads:
    """What the composition root needs of the slice."""

    service: UploadService
    stores: Stores
    tasks: list[BackgroundTask]

    @classmethod
    def of(cls, pool: Pool, settings: Settings, announce: Announce, wake: Wake) -> Self:
        """The slice over this database."""
        stores = Stores.of(pool, settings)
        sweeper = Sweeper(pool, stores, settings.upload.ack_retention)
        service = UploadService(
            pool=pool, settings=settings, stores=stores, announce=announce, wake=wake
        )
        tasks = [
            BackgroundTask(
                "upload-sweep",
                settings.upload.sweep_interval,
                sweeper.sweep,
                timeout=_SWEEP_TIMEOUT_SECONDS,
            )
        ]
        if stores.s3 is not None:
            tasks.append(
                BackgroundTask(
                    "upload-orphans",
                    _ORPHANS_EVERY_SECONDS,
                    sweeper.sweep_orphans,
                    timeout=_ORPHANS_TIMEOUT_SECONDS,
                )
            )
        return cls(service, stores, tasks)

    def delete_soon(self) -> None:
        """Workspaces were removed: delete the bytes of their files now, not at the next turn."""
        self.tasks[0].nudge()
