"""What a slice is opened from, over a test's database."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from molecule_grpc.auth.authenticator import Authenticator
from molecule_grpc.budgets import Budgets
from molecule_grpc.core import Core
from molecule_grpc.db.disk import DiskSpace
from molecule_grpc.db.health import DatabaseHealth
from molecule_grpc.db.pool import Pool
from molecule_grpc.db.wakeups import Wakeups
from molecule_grpc.egress import EgressRules
from molecule_grpc.events.readers import EventReaders
from molecule_grpc.kernel.page_tokens import PageTokens
from molecule_grpc.quotas import Quotas
from molecule_grpc.server.audit import AuditLog
from molecule_grpc.server.streams import OpenStreams, StreamGuards
from molecule_grpc.server.unread import Unread
from molecule_grpc.settings.settings import Settings
from tests.settings import egress_of


@contextlib.asynccontextmanager
async def core_of(pool: Pool, dsn: str, settings: Settings) -> AsyncIterator[Core]:
    """A worker that tells the others nothing."""
    wakeups = Wakeups(None, "test")
    authenticator = Authenticator(pool, settings.auth, development=settings.deployment.development)
    streams, budgets = OpenStreams(), Budgets.of(settings.budgets)
    unread = Unread(budgets.stream_bytes)
    database = DatabaseHealth(dsn)
    with EventReaders.of(wakeups) as readers:
        yield Core(
            settings=settings,
            dsn=dsn,
            pool=pool,
            database=database,
            disk=DiskSpace(None, 0),
            budgets=budgets,
            quotas=Quotas.of(settings),
            wakeups=wakeups,
            authenticator=authenticator,
            streams=streams,
            unread=unread,
            guards=StreamGuards(
                authenticator, streams, settings.inbox, budget=budgets.streams, unread=unread
            ),
            readers=readers,
            page_tokens=PageTokens(bytes(32)),
            audit=AuditLog(pool, settings.audit),
            egress=egress_of(EgressRules.of(settings.deployment, settings.egress)),
        )
    await database.close()
