"""Composition root: settings → stores → services → methods and background tasks."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from google.protobuf.message import Message
from moleculeai.delegation.v1 import delegation_service_pb2
from moleculeai.workspace.v1 import workspace_service_pb2

from molecule_grpc.admin.wiring import open_admin
from molecule_grpc.auth import store as token_store
from molecule_grpc.auth.authenticator import Authenticator
from molecule_grpc.core import Core, Slice
from molecule_grpc.db import wakeups as wake
from molecule_grpc.db.listener import Listener
from molecule_grpc.db.pool import Connection, Pool, Writer, connect_pool
from molecule_grpc.delegation.inbox.reads import InboxReads
from molecule_grpc.delegation.inbox.retention import purge
from molecule_grpc.delegation.inbox.wiring import inbox_use_cases, open_record_and_inbox
from molecule_grpc.delegation.ledger.dead_letters import DeadLetters
from molecule_grpc.delegation.ledger.undelivered import Undelivered
from molecule_grpc.delegation.ledger.wiring import open_ledger
from molecule_grpc.delegation.outbound.due import DueWorkspaces
from molecule_grpc.delegation.outbound.wiring import open_outbound
from molecule_grpc.delegation.record.activity import ActivityRecord
from molecule_grpc.delegation.record.notices import file_announcer
from molecule_grpc.delegation.record.writes import RecordWrites
from molecule_grpc.delegation.service import DelegationService
from molecule_grpc.events import store as event_store
from molecule_grpc.events.readers import EventReaders
from molecule_grpc.events.wiring import make_events
from molecule_grpc.faces.mcp.endpoint import Endpoint
from molecule_grpc.faces.mcp.ports import Platform
from molecule_grpc.kernel.page_tokens import PageTokens
from molecule_grpc.server.call import Call
from molecule_grpc.server.methods import Method, bind, request_types
from molecule_grpc.server.metrics import CallMetrics
from molecule_grpc.server.pipeline import Pipeline
from molecule_grpc.server.process.garbage_collection import garbage_collection_tasks
from molecule_grpc.server.streams import OpenStreams, StreamGuards
from molecule_grpc.server.tasks import BackgroundTask
from molecule_grpc.server.validation import Validator
from molecule_grpc.settings.settings import Settings
from molecule_grpc.upload.ports import OnRemove, OnRemoved
from molecule_grpc.upload.wiring import open_upload
from molecule_grpc.workspace.directory import Directory
from molecule_grpc.workspace.heartbeat_events import PUBLISH_SECONDS, HeartbeatEvents
from molecule_grpc.workspace.heartbeats import Heartbeats
from molecule_grpc.workspace.service import WorkspaceService
from molecule_grpc.workspace.store.heartbeats import Heartbeat, HeartbeatResult
from molecule_grpc.workspace.workers import sweep_liveness

_TOKEN_TOUCH_SECONDS = 60.0
_TOKEN_RECHECK_SECONDS = 60.0
_PAGE_TOKEN_KEY = "SELECT key FROM installation_keys WHERE purpose = 'page_tokens'"
# The use cases behind these RPCs need nothing of a call.
_NO_CALL = Call(metadata={})


@dataclass(slots=True)
class App:
    """What a host serves, and what runs beside it."""

    pool: Pool
    methods: list[Method]
    pipeline: Pipeline
    tasks: list[BackgroundTask]
    streams: OpenStreams
    records: RecordWrites
    reads: InboxReads

    async def healthy(self) -> bool:
        """Whether the database answers."""
        return await _answers(self.pool)


class _Removals:
    """Subscriptions to removals, until the workspace slice has its own."""

    def __init__(self) -> None:
        self._in_transaction: list[OnRemove] = []
        self._after_commit: list[OnRemoved] = []

    def on_remove(self, subscriber: OnRemove) -> None:
        self._in_transaction.append(subscriber)

    def on_removed(self, subscriber: OnRemoved) -> None:
        self._after_commit.append(subscriber)

    async def removing(self, conn: Connection, workspace_ids: list[UUID]) -> None:
        for subscriber in self._in_transaction:
            await subscriber(conn, workspace_ids)

    def removed(self, workspace_ids: Iterable[UUID]) -> None:
        ids = list(workspace_ids)
        for subscriber in self._after_commit:
            subscriber(ids)


@contextlib.asynccontextmanager
async def application(settings: Settings, dsn: str, worker: str) -> AsyncIterator[App]:
    """Everything wired together, running, until the block ends; then flushed and closed.

    Args:
        worker: names this process among all that share the database.
    """
    async with contextlib.AsyncExitStack() as stack:
        pool = await connect_pool(
            dsn, min_size=2, max_size=settings.process.database_pool_size, application_name=worker
        )
        stack.push_async_callback(pool.close)
        authenticator = Authenticator(
            pool, settings.auth, development=settings.deployment.development
        )
        # A NOTIFY commits too, but nobody waits for it to reach the disk.
        notifier = Writer(dsn, application_name="molecule-grpc-notify", synchronous_commit="off")
        stack.push_async_callback(notifier.close)
        wakeups = wake.Wakeups(notifier if settings.process.notify else None, worker)
        tell_readers = functools.partial(wakeups.announce, [event_store.CHANNEL_ALL])
        directory = Directory(pool)
        streams = OpenStreams()
        guards = StreamGuards(authenticator, streams, settings.inbox)
        floors = await stack.enter_async_context(
            open_record_and_inbox(dsn, pool, wakeups, settings)
        )
        records, reads = floors.records, floors.reads
        audience = stack.enter_context(EventReaders.of(wakeups))
        core = Core(
            settings=settings,
            dsn=dsn,
            pool=pool,
            wakeups=wakeups,
            authenticator=authenticator,
            streams=streams,
            guards=guards,
            readers=audience,
            page_tokens=PageTokens(await pool.fetchval(_PAGE_TOKEN_KEY)),
        )
        due_workspaces = DueWorkspaces()
        ledger = await stack.enter_async_context(
            open_ledger(core, reads, directory, limits=floors.limits, on_queued=due_workspaces.add)
        )
        heartbeat_events = HeartbeatEvents(pool, wakeups, audience)

        def on_heartbeats(done: Sequence[tuple[Heartbeat, HeartbeatResult]]) -> None:
            due_workspaces.agents_have_room(beat.workspace_id for beat, _ in done)
            heartbeat_events.on_heartbeats(done)

        heartbeats = await stack.enter_async_context(Heartbeats(dsn, settings, moved=on_heartbeats))
        removals = _Removals()
        removals.on_removed(wakeups.wake)
        uploads = await stack.enter_async_context(
            open_upload(core, file_announcer(settings), removals)
        )
        workspace_service = WorkspaceService(
            pool=pool,
            settings=settings,
            directory=directory,
            heartbeats=heartbeats,
            beat_delegations=ledger.moves.on_heartbeat,
            on_remove=removals.removing,
            on_purge=purge,
            wake=removals.removed,
        )
        undelivered = Undelivered(ledger.moves)
        inbox = inbox_use_cases(
            floors,
            pool,
            wakeups,
            guards,
            settings,
            touch_present=workspace_service.touch_present,
            on_poisoned=undelivered.poisoned,
            on_expired=undelivered.expired,
        )
        events = make_events(pool, wakeups, authenticator, guards, audience)
        outbound = await stack.enter_async_context(
            open_outbound(
                core,
                ledger,
                records,
                directory,
                due_workspaces,
                tasks_changed=heartbeat_events.tasks_changed,
            )
        )
        activity = ActivityRecord(pool, records, directory)

        def check(request: Message) -> None:
            validator.check(request)

        def serve() -> DelegationService:
            return delegation_service

        mcp = Endpoint(
            Platform(
                check=check,
                lookup=directory.lookup,
                heartbeat=workspace_service.heartbeat,
                list_peers=workspace_service.ListPeers,
                delegate=lambda request, call: serve().Delegate(request, call),
                update=lambda request: serve().UpdateDelegation(request, _NO_CALL),
                get=lambda request: serve().GetDelegation(request, _NO_CALL),
                pull=lambda request, call: serve().PullInbox(request, call),
                ack=lambda request: serve().AckInbox(request, _NO_CALL),
                list_activity=lambda request: serve().ListActivity(request, _NO_CALL),
                get_activity=lambda request: serve().GetActivity(request, _NO_CALL),
                notify=lambda request: serve().Notify(request, _NO_CALL),
            ),
            authenticator,
            guards,
            settings,
        )
        tasks = _tasks(pool, settings, authenticator, tell_readers)
        tasks += [*inbox.tasks, *ledger.tasks, *uploads.tasks, *outbound.tasks, *events.tasks]
        tasks += [
            *garbage_collection_tasks(),
            BackgroundTask("heartbeat_events", PUBLISH_SECONDS, heartbeat_events.publish),
        ]
        by_name = {task.name: task for task in tasks}
        admin = await stack.enter_async_context(
            open_admin(
                core,
                ledger=ledger.views,
                dead_letters=DeadLetters(pool, wakeups, ledger.retries),
                drop_stale=outbound.queue_queries.drop_stale,
                healthy=lambda: _answers(pool),
                tasks=lambda: by_name,
            )
        )
        delegation_service = DelegationService(
            ledger=ledger,
            outbound=outbound,
            activity=activity,
            inbox=inbox.inbox,
            inbox_streams=inbox.streams,
            heartbeat=workspace_service.heartbeat,
            events=events.service,
            mcp=mcp,
        )
        methods = _methods(
            workspace_service,
            delegation_service,
            uploads,
            admin,
        )
        validator = Validator(request_types(methods))
        pipeline = Pipeline(
            authenticator=authenticator,
            validator=validator,
            metrics=CallMetrics(method.path for method in methods),
        )
        listener = Listener(
            dsn,
            {wake.CHANNEL: wakeups.hear, token_store.CHANNEL: authenticator.forget},
            missed=lambda: _missed(wakeups, authenticator, by_name["token-recheck"]),
        )
        loops = {
            "wakeups": wakeups.run,
            "listener": listener.run,
            "deliveries": outbound.deliveries.run,
            **events.loops,
        }
        await stack.enter_async_context(_running(loops, tasks))
        yield App(pool, methods, pipeline, tasks, streams, records, reads)


def _methods(
    workspace: WorkspaceService,
    delegation: DelegationService,
    upload: Slice,
    admin: Slice,
) -> list[Method]:
    services = (
        (workspace_service_pb2, "WorkspaceService", workspace),
        (delegation_service_pb2, "DelegationService", delegation),
    )
    return [
        method
        for module, name, handlers in services
        for method in bind(module.DESCRIPTOR.services_by_name[name], handlers)
    ] + [
        method
        for service, handlers in (*upload.handlers, *admin.handlers)
        for method in bind(service, handlers)
    ]


def _tasks(
    pool: Pool,
    settings: Settings,
    authenticator: Authenticator,
    tell_readers: Callable[[], None],
) -> list[BackgroundTask]:
    async def touch_tokens() -> None:
        if used := authenticator.take_used():
            await token_store.touch(pool, used)

    return [
        BackgroundTask(
            "liveness-sweep",
            settings.workspace.liveness_interval,
            lambda: sweep_liveness(pool, settings.workspace, tell_readers),
        ),
        BackgroundTask("token-recheck", _TOKEN_RECHECK_SECONDS, authenticator.recheck),
        BackgroundTask("token-last-use", _TOKEN_TOUCH_SECONDS, touch_tokens),
    ]


@contextlib.asynccontextmanager
async def _running(
    loops: Mapping[str, Callable[[], Awaitable[None]]], tasks: list[BackgroundTask]
) -> AsyncIterator[None]:
    """Run what has no end of its own, for as long as the block lasts."""
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(task.run(), name=task.name) for task in tasks]
        for name, loop in loops.items():
            running.append(group.create_task(_forever(loop), name=name))
        try:
            yield
        finally:
            for one in running:
                one.cancel()


async def _forever(loop: Callable[[], Awaitable[None]]) -> None:
    await loop()


def _missed(wakeups: wake.Wakeups, authenticator: Authenticator, recheck: BackgroundTask) -> None:
    authenticator.forget_all()
    recheck.nudge()
    wakeups.wake_everybody()


async def _answers(pool: Pool) -> bool:
    try:
        async with asyncio.timeout(2.0):
            await pool.fetchval("SELECT 1")
    except Exception:  # noqa: BLE001  (whatever it is, the answer is no)
        return False
    return True
