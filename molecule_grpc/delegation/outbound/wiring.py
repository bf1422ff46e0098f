"""The way out to agents' URLs, put together: dispatch, queue, and their background tasks."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from molecule_grpc.core import Core
from molecule_grpc.db.pool import Pool
from molecule_grpc.db.sweep import SWEEP_TIMEOUT_SECONDS
from molecule_grpc.db.wakeups import Wakeups
from molecule_grpc.delegation.ledger.wiring import Ledger
from molecule_grpc.delegation.outbound.deliveries import Deliveries
from molecule_grpc.delegation.outbound.dispatch import Dispatcher
from molecule_grpc.delegation.outbound.due import DueWorkspaces
from molecule_grpc.delegation.outbound.messages import Messages
from molecule_grpc.delegation.outbound.open_calls import OpenCalls
from molecule_grpc.delegation.outbound.queue import Queue
from molecule_grpc.delegation.outbound.queue_queries import QueueQueries
from molecule_grpc.delegation.outbound.send import Answered, Push, Show
from molecule_grpc.delegation.outbound.store import targets
from molecule_grpc.delegation.record.writes import RecordWrites
from molecule_grpc.directory import Containers, Directory, NoContainers, OnTokens, no_tokens
from molecule_grpc.events.store import CHANNEL_ALL
from molecule_grpc.server.task_set import TaskSet
from molecule_grpc.server.tasks import BackgroundTask
from molecule_grpc.settings.settings import Settings

# When the server stops, deliveries have this long after the calls in flight.
_STOP_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """What others call of the way out. Run `deliveries.run` and `tasks` while it is open."""

    messages: Messages
    queue_queries: QueueQueries
    queue: Queue
    deliveries: Deliveries
    sending: TaskSet
    tasks: Sequence[BackgroundTask]


@asynccontextmanager
async def open_outbound(
    core: Core,
    ledger: Ledger,
    records: RecordWrites,
    directory: Directory,
    due_workspaces: DueWorkspaces,
    *,
    tasks_changed: Callable[[Iterable[UUID]], None] = lambda _: None,
    containers: Containers | None = None,
    on_tokens: OnTokens = no_tokens,
) -> AsyncIterator[Outbound]:
    """The way out, for as long as calls are served.

    Args:
        due_workspaces: the same that the ledger tells of queued tasks.
        tasks_changed: called with workspaces whose count of active tasks was reset to 0.
        containers: what runs agents' containers; None when nothing does.
        on_tokens: called with the tokens that an agent's answer tells of.
    """
    containers = containers or NoContainers()
    pool, settings = core.pool, core.settings.outbound
    dispatcher = _dispatcher(core, containers, on_tokens)
    calls = OpenCalls(core.budgets)
    queue = Queue(pool, ledger.writes, due_workspaces, settings, quota=core.quotas.inbox_items)
    async with TaskSet(wait_limit=_STOP_SECONDS) as sending:
        deliveries = Deliveries(
            pool,
            queue,
            records,
            directory,
            dispatcher,
            calls,
            settings,
            kept_days=core.settings.retention.queue,
            wakeups=core.wakeups,
            due_workspaces=due_workspaces,
            tasks=sending,
            draining=lambda: core.streams.draining,
            tasks_changed=tasks_changed,
            wake=containers.wake,
        )
        show = show_with(pool, core.wakeups)
        push = Push(pool, records, queue, dispatcher, calls, sending, settings, show=show)
        yield Outbound(
            messages=_messages(core, ledger, records, directory, push, containers),
            queue_queries=QueueQueries(pool, ledger.moves),
            queue=queue,
            deliveries=deliveries,
            sending=sending,
            tasks=_tasks(core.settings, queue, deliveries),
        )


def _dispatcher(core: Core, containers: Containers, on_tokens: OnTokens) -> Dispatcher:
    return Dispatcher(
        core.settings.outbound,
        core.egress,
        sign=lambda workspace_id: targets.sign_of_life(core.pool, workspace_id),
        containers=containers,
        on_tokens=on_tokens,
    )


def _messages(
    core: Core,
    ledger: Ledger,
    records: RecordWrites,
    directory: Directory,
    push: Push,
    containers: Containers,
) -> Messages:
    return Messages(
        core.pool,
        records,
        ledger.moves,
        directory,
        push,
        core.guards,
        core.quotas,
        wake=containers.wake,
        max_body=core.settings.outbound.max_body_bytes,
    )


def _tasks(settings: Settings, queue: Queue, deliveries: Deliveries) -> list[BackgroundTask]:
    outbound = settings.outbound
    return [
        BackgroundTask("a2a-queue", outbound.drain_interval, deliveries.sweep),
        BackgroundTask(
            "a2a-retention",
            settings.retention.sweep,
            deliveries.prune,
            timeout=SWEEP_TIMEOUT_SECONDS,
        ),
        BackgroundTask("a2a-wake", outbound.wake_interval, deliveries.wake_sleepers),
        BackgroundTask("a2a-leases", outbound.lease / 3, queue.renew),
        BackgroundTask("phantom-busy", outbound.phantom_interval, deliveries.reset_phantoms),
    ]


def show_with(pool: Pool, wakeups: Wakeups) -> Show:
    """Tells readers of live events of each answer to a human."""

    async def show(answered: Answered) -> None:
        stored = answered.outcome.reply.stored
        payload = {
            "response_body": json.loads(stored) if stored else None,
            "method": answered.method,
            "duration_ms": answered.outcome.duration_ms,
        }
        await targets.show_answer(pool, answered.target.id, json.dumps(payload))
        wakeups.announce([CHANNEL_ALL])

    return show
