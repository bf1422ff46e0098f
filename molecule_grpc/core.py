"""What every slice is built from, and what a slice hands back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from google.protobuf.descriptor import ServiceDescriptor

from molecule_grpc.auth import store as token_store
from molecule_grpc.auth.authenticator import Authenticator
from molecule_grpc.auth.local_calls import LocalCalls
from molecule_grpc.auth.strangers import StrangerLimit
from molecule_grpc.budgets import Budgets
from molecule_grpc.db import wakeups as wake
from molecule_grpc.db.disk import DiskSpace
from molecule_grpc.db.health import DatabaseHealth
from molecule_grpc.db.installation import page_token_key
from molecule_grpc.db.listener import Listener
from molecule_grpc.db.pool import Pool, Writer, connect_pool
from molecule_grpc.db.wakeups import Wakeups
from molecule_grpc.egress import Egress, EgressRules
from molecule_grpc.events.readers import EventReaders
from molecule_grpc.kernel.page_tokens import PageTokens
from molecule_grpc.lookups import Lookups
from molecule_grpc.quotas import Quotas
from molecule_grpc.server.audit import AuditLog
from molecule_grpc.server.streams import OpenStreams, StreamGuards
from molecule_grpc.server.tasks import BackgroundTask
from molecule_grpc.server.unread import Unread
from molecule_grpc.settings.process import ProcessSettings
from molecule_grpc.settings.settings import Settings

_MIN_CONNECTIONS = 2
_TOKEN_TOUCH_SECONDS = 60.0
_TOKEN_RECHECK_SECONDS = 60.0
_AUDIT_SWEEP_SECONDS = 3600.0
_DISK_SECONDS = 1.0
_PUBLISH_SECONDS = 1.0
_RELIEVE_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """One worker's share of everything that slices have in common.

    Args:
        dsn: for connections outside the pool.
        database: whether the database answers.
        disk: whether the disk of the embedded Postgres has room.
        budgets: what is in use at once, of what all share.
        quotas: what organisations and workspaces may keep.
        streams: everything here that lasts; a drain wakes it.
        unread: what clients of streams have not taken.
        guards: watch over what lasts: its token, its age, a drain.
        readers: whether anybody reads events now.
        page_tokens: makes and reads the tokens of all lists.
        egress: checks URLs of agents before they are called.
        audit: notes who did what.
    """

    settings: Settings
    dsn: str
    pool: Pool
    database: DatabaseHealth
    disk: DiskSpace
    budgets: Budgets
    quotas: Quotas
    wakeups: Wakeups
    authenticator: Authenticator
    streams: OpenStreams
    unread: Unread
    guards: StreamGuards
    readers: EventReaders
    page_tokens: PageTokens
    egress: Egress
    audit: AuditLog


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """What a slice adds to the worker.

    Args:
        handlers: by service, the object with a method for each RPC.
        tasks: steps that run on a period.
        loops: what runs without an end of its own, by name.
    """

    handlers: Sequence[tuple[ServiceDescriptor, object]] = ()
    tasks: Sequence[BackgroundTask] = ()
    loops: Mapping[str, Callable[[], Coroutine[None, None, None]]] = field(default_factory=dict)


@contextlib.asynccontextmanager
async def open_core(settings: Settings, dsn: str, worker: str) -> AsyncIterator[tuple[Core, Slice]]:
    """The core, and what must run beside it, until the block ends.

    Args:
        worker: names this process among all that share the database.
    """
    async with contextlib.AsyncExitStack() as stack:
        budgets = Budgets.of(settings.budgets)
        pool = await connect_pool(
            dsn,
            min_size=_MIN_CONNECTIONS,
            max_size=settings.process.database_pool_size,
            application_name=worker,
            turns=budgets.statements,
        )
        stack.push_async_callback(pool.close)
        database = DatabaseHealth(dsn)
        stack.push_async_callback(database.close)
        # A NOTIFY commits too, but nobody waits for the commit to reach the disk.
        notifier = Writer(dsn, application_name="molecule-grpc-notify", synchronous_commit="off")
        stack.push_async_callback(notifier.close)
        wakeups = Wakeups(notifier if settings.process.notify else None, worker)
        authenticator = Authenticator(
            pool,
            settings.auth,
            development=settings.deployment.development,
            local_calls=LocalCalls(settings.edge),
            strangers=StrangerLimit(settings.edge.stranger_calls_per_minute),
        )
        audit = AuditLog(pool, settings.audit)
        stack.push_async_callback(audit.close)
        lookups = Lookups(budgets.lookups, settings.egress.name_servers)
        stack.push_async_callback(lookups.close)
        streams, unread = OpenStreams(), Unread(budgets.stream_bytes)
        core = Core(
            settings=settings,
            dsn=dsn,
            pool=pool,
            database=database,
            disk=_disk(settings.process),
            budgets=budgets,
            quotas=Quotas.of(settings),
            wakeups=wakeups,
            authenticator=authenticator,
            streams=streams,
            unread=unread,
            guards=StreamGuards(
                authenticator, streams, settings.inbox, budget=budgets.streams, unread=unread
            ),
            readers=stack.enter_context(EventReaders.of(wakeups)),
            page_tokens=PageTokens(await page_token_key(pool)),
            egress=Egress(EgressRules.of(settings.deployment, settings.egress), lookups),
            audit=audit,
        )
        yield core, _beside(core)


def _disk(settings: ProcessSettings) -> DiskSpace:
    """The disk of the embedded Postgres, where that is the database."""
    cluster = settings.data_dir / "postgres"
    embedded = not settings.database_url and cluster.exists()
    return DiskSpace(cluster if embedded else None, settings.disk_low_bytes)


def _beside(core: Core) -> Slice:
    authenticator, wakeups = core.authenticator, core.wakeups

    async def touch_tokens() -> None:
        if used := authenticator.take_used():
            await token_store.touch(core.pool, used)

    recheck = BackgroundTask("token-recheck", _TOKEN_RECHECK_SECONDS, authenticator.recheck)

    def notifications_missed() -> None:
        authenticator.forget_all()
        recheck.nudge()
        wakeups.wake_everybody()

    listener = Listener(
        core.dsn,
        {
            wake.CHANNEL: wakeups.hear,
            token_store.CHANNEL: authenticator.forget,
            token_store.PURGED_CHANNEL: authenticator.forget_workspace,
        },
        missed=notifications_missed,
    )
    audit = BackgroundTask("audit-log", core.settings.audit.window_seconds, core.audit.write)
    core.audit.tell = audit.nudge
    return Slice(
        tasks=[
            recheck,
            audit,
            BackgroundTask("audit-retention", _AUDIT_SWEEP_SECONDS, core.audit.sweep),
            BackgroundTask("token-last-use", _TOKEN_TOUCH_SECONDS, touch_tokens),
            BackgroundTask("disk", _DISK_SECONDS, core.disk.look),
            BackgroundTask("budgets", _PUBLISH_SECONDS, core.budgets.publish),
            BackgroundTask("slow-consumers", _RELIEVE_SECONDS, core.unread.relieve),
        ],
        loops={"wakeups": wakeups.run, "listener": listener.run},
    )


@contextlib.asynccontextmanager
async def running(slices: Iterable[Slice]) -> AsyncIterator[None]:
    """Run the slices' tasks and loops for as long as the block lasts."""
    async with asyncio.TaskGroup() as group:
        started: list[asyncio.Task[None]] = []
        for each in slices:
            started += [group.create_task(step.run(), name=step.name) for step in each.tasks]
            started += [group.create_task(loop(), name=name) for name, loop in each.loops.items()]
        try:
            yield
        finally:
            for task in started:
                task.cancel()
