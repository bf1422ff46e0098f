"""Opens the slice for one worker."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from uuid import UUID

from molecule_grpc.core import Core, Slice
from molecule_grpc.quotas import QuotaUse
from molecule_grpc.server.tasks import BackgroundTask
from molecule_grpc.upload.blobs.stores import BlobStores, open_blob_stores
from molecule_grpc.upload.forward import Forwarder
from molecule_grpc.upload.ports import Announce, Workspaces
from molecule_grpc.upload.publishing import Publisher
from molecule_grpc.upload.reads import UploadReads
from molecule_grpc.upload.resumable import ResumableUploads
from molecule_grpc.upload.rules import UploadLimits
from molecule_grpc.upload.service import UploadService, handlers
from molecule_grpc.upload.staging import Staging
from molecule_grpc.upload.store import uploads
from molecule_grpc.upload.workers import UploadSweeper
from molecule_grpc.upload.writes import UploadWrites

_SWEEP_TIMEOUT_SECONDS = 30.0
_ORPHANS_EVERY_SECONDS = 6 * 3600.0
_ORPHANS_TIMEOUT_SECONDS = 600.0


@contextlib.asynccontextmanager
async def open_upload(
    core: Core, announce: Announce, workspaces: Workspaces
) -> AsyncIterator[Slice]:
    """The slice, while inside.

    Files of a removed workspace are deleted in the transaction of the removal, and their bytes
    soon after its commit.

    Args:
        announce: puts notices of files into an agent's inbox.
        workspaces: tells of removals, and of questions about quotas.
    """
    settings = core.settings.upload
    async with open_blob_stores(core.pool, settings) as stores:
        service = UploadService(
            _writes(core, stores, announce),
            UploadReads(core.pool, stores, core.page_tokens, after_ack=settings.read_after_ack),
            core.guards,
        )
        sweeper = UploadSweeper(core.pool, stores, settings.ack_retention)
        sweep = BackgroundTask(
            "upload-sweep", settings.sweep_interval, sweeper.sweep, timeout=_SWEEP_TIMEOUT_SECONDS
        )
        tasks = [sweep]
        if stores.may_have_orphans:
            tasks.append(
                BackgroundTask(
                    "upload-orphans",
                    _ORPHANS_EVERY_SECONDS,
                    sweeper.sweep_orphans,
                    timeout=_ORPHANS_TIMEOUT_SECONDS,
                )
            )

        def delete_bytes_soon(_: Sequence[UUID]) -> None:
            sweep.nudge()

        workspaces.on_remove(uploads.purge)
        workspaces.on_removed(delete_bytes_soon)
        workspaces.on_uses(functools.partial(_quota_uses, core))
        yield Slice(handlers=[handlers(service)], tasks=tasks)


async def _quota_uses(
    core: Core, _organization_id: UUID, workspace_id: UUID | None
) -> list[QuotaUse]:
    """What a workspace uses of the quotas of files."""
    if workspace_id is None:
        return []
    used = await uploads.usage(core.pool, workspace_id)
    return [
        QuotaUse(core.quotas.upload_files, used.files),
        QuotaUse(core.quotas.upload_bytes, used.bytes),
    ]


def _writes(core: Core, stores: BlobStores, announce: Announce) -> UploadWrites:
    settings = core.settings.upload
    limits = UploadLimits(settings.max_bytes)
    forwarder = Forwarder(core.pool, limits, core.egress, core.budgets.calls)
    if (blobs := stores.active) is None:
        return UploadWrites(core.pool, limits, forwarder, staging=None, resumable=None)
    publisher = Publisher(core.pool, announce, core.wakeups.wake, blobs.name, settings, core.quotas)
    return UploadWrites(
        core.pool,
        limits,
        forwarder,
        staging=Staging(core.pool, blobs, publisher, limits, core.budgets.uploads),
        resumable=ResumableUploads(
            core.pool,
            blobs,
            publisher,
            limits,
            core.budgets.uploads,
            ttl=timedelta(seconds=settings.ttl),
        ),
    )
