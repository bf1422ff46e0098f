"""Opens the rooms that store, change and read memories."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

from molecule_grpc.core import Core
from molecule_grpc.db.pool import database_errors
from molecule_grpc.db.sweep import SWEEP_TIMEOUT_SECONDS
from molecule_grpc.directory import DEFAULT_ORGANIZATION
from molecule_grpc.events.store import CHANNEL_ALL
from molecule_grpc.memory.chains import Chains
from molecule_grpc.memory.changes import Changes
from molecule_grpc.memory.commits import Commits
from molecule_grpc.memory.grants import Grants
from molecule_grpc.memory.helpers import Reader, SimilarTexts
from molecule_grpc.memory.namespaces import Namespaces
from molecule_grpc.memory.ports import Audit
from molecule_grpc.memory.rates import CommitRate
from molecule_grpc.memory.reads import Reads
from molecule_grpc.memory.refusals import MemoryQuotas
from molecule_grpc.memory.store import usage
from molecule_grpc.memory.upkeep import Upkeep
from molecule_grpc.quotas import QuotaUse
from molecule_grpc.server.tasks import BackgroundTask


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """The built-in store of memories, open while calls are served.

    Args:
        tasks: run by every worker.
    """

    namespaces: Namespaces
    commits: Commits
    changes: Changes
    reads: Reads
    grants: Grants
    upkeep: Upkeep
    quotas: MemoryQuotas
    tasks: list[BackgroundTask]
    core: Core

    async def quota_uses(self, organization_id: UUID, _workspace_id: UUID | None) -> list[QuotaUse]:
        """What an organisation uses of the quotas of memories."""
        with database_errors():
            used = await usage.of_organization(self.core.pool, organization_id)
        return [
            QuotaUse(self.quotas.organization_memories, used.memories),
            QuotaUse(self.quotas.organization_bytes, used.bytes),
        ]


@contextlib.asynccontextmanager
async def open_memories(
    core: Core,
    audit: Audit,
    *,
    reader: Reader | None = None,
    similar: SimilarTexts | None = None,
) -> AsyncIterator[Rooms]:
    """The rooms, while inside; what waits is flushed at the end.

    Args:
        audit: enters rows into records.
        reader: reads new texts; None where nobody searches by meaning.
        similar: finds memories that resemble a new one; None for no hints.
    """
    pool, settings = core.pool, core.settings.memory
    quotas, namespaces = MemoryQuotas(settings), Namespaces(pool)
    upkeep = Upkeep(pool, has_plugin=bool(core.settings.plugin.remote_url))
    sweep = BackgroundTask(
        "memory-sweep", settings.sweep_interval, upkeep.sweep, timeout=SWEEP_TIMEOUT_SECONDS
    )

    def tell_readers() -> None:
        core.wakeups.announce({CHANNEL_ALL})

    rate = CommitRate(settings.commits_per_minute)
    changes = Changes(pool, quotas, audit, rate=rate, tell_readers=tell_readers, reader=reader)
    chains = Chains(pool, quotas, audit, changes, tell_readers=tell_readers, reader=reader)
    commits = Commits(
        core.dsn,
        pool,
        quotas,
        audit,
        changes,
        chains,
        rate=rate,
        tell_readers=tell_readers,
        similar=similar,
        reader=reader,
    )
    async with commits:
        yield Rooms(
            namespaces=namespaces,
            commits=commits,
            changes=changes,
            reads=Reads(pool, namespaces, upkeep.recalled, similar),
            grants=Grants(pool, DEFAULT_ORGANIZATION, tell_sweeper=sweep.nudge),
            upkeep=upkeep,
            quotas=quotas,
            tasks=[
                sweep,
                BackgroundTask("memory-recalls", settings.recall_interval, upkeep.note),
            ],
            core=core,
        )
