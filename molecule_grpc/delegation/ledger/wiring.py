"""The ledger put together: its writers, use cases and sweeper."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from molecule_grpc.core import Core
from molecule_grpc.db.sweep import SWEEP_TIMEOUT_SECONDS
from molecule_grpc.delegation.inbox.reads import InboxReads
from molecule_grpc.delegation.ledger.fires import Fires
from molecule_grpc.delegation.ledger.handover import Handovers
from molecule_grpc.delegation.ledger.moves import Moves
from molecule_grpc.delegation.ledger.ports import OnQueued
from molecule_grpc.delegation.ledger.retention import LedgerRetention
from molecule_grpc.delegation.ledger.retries import Retries
from molecule_grpc.delegation.ledger.sweeper import Sweeper
from molecule_grpc.delegation.ledger.views import LedgerViews
from molecule_grpc.delegation.ledger.watch import Watch
from molecule_grpc.delegation.ledger.writes import LedgerWrites
from molecule_grpc.directory import Containers, Directory, NoContainers
from molecule_grpc.server.tasks import BackgroundTask
from molecule_grpc.settings.retention import RetentionSettings

_FOLD_SECONDS = 10.0
_RECOUNT_SECONDS = 86_400.0
_RECOUNT_TIMEOUT_SECONDS = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What others call of the ledger."""

    writes: LedgerWrites
    handovers: Handovers
    fires: Fires
    moves: Moves
    views: LedgerViews
    watch: Watch
    retries: Retries
    tasks: Sequence[BackgroundTask]


@asynccontextmanager
async def open_ledger(
    core: Core,
    reads: InboxReads,
    directory: Directory,
    *,
    on_queued: OnQueued,
    containers: Containers | None = None,
) -> AsyncIterator[Ledger]:
    """The ledger, for as long as calls are served.

    Args:
        reads: told of the items that the ledger puts into inboxes.
        on_queued: called with a callee after a task entered its queue.
        containers: what runs agents' containers; None when nothing does.
    """
    wake = (containers or NoContainers()).wake
    settings = core.settings
    linger = settings.process.group_commit_linger_ms / 1000
    async with LedgerWrites(
        core.dsn, core.pool, core.wakeups, reads, core.quotas, linger=linger
    ) as writes:
        views = LedgerViews(core.pool, core.page_tokens)
        watch = Watch(views, core.wakeups, core.guards)
        sweeper = Sweeper(core.pool, writes, stuck_after=settings.delegation.stuck_after)
        yield Ledger(
            writes=writes,
            handovers=Handovers(core.pool, writes, watch, directory, on_queued, wake),
            fires=Fires(core.pool, writes, directory, on_queued, wake),
            moves=Moves(writes),
            views=views,
            watch=watch,
            retries=Retries(core.pool, writes, on_queued),
            tasks=[
                BackgroundTask(
                    "delegation-sweeper", settings.delegation.sweep_interval, sweeper.sweep
                ),
                *_retention_tasks(core, settings.retention),
            ],
        )


def _retention_tasks(core: Core, settings: RetentionSettings) -> list[BackgroundTask]:
    retention = LedgerRetention(core.pool, days=settings.delegations)
    return [
        BackgroundTask(
            "delegation-retention", settings.sweep, retention.sweep, timeout=SWEEP_TIMEOUT_SECONDS
        ),
        BackgroundTask("delegation-tallies", _FOLD_SECONDS, retention.fold),
        BackgroundTask(
            "delegation-recount",
            _RECOUNT_SECONDS,
            retention.recount,
            timeout=_RECOUNT_TIMEOUT_SECONDS,
        ),
    ]
