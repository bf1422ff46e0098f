"""The way out to agents' URLs, put together: dispatch, queue, and what runs beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Self
from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.db.wakeups import Wakeups
from molecule_grpc.delegation.ledger.ledger import Ledger
from molecule_grpc.delegation.ledger.writes import LedgerWrites
from molecule_grpc.delegation.outbound.deliveries import Deliveries
from molecule_grpc.delegation.outbound.dispatch import Containers, Dispatcher
from molecule_grpc.delegation.outbound.due import DueWorkspaces
from molecule_grpc.delegation.outbound.queue import Queue
from molecule_grpc.delegation.outbound.queue_queries import QueueQueries
from molecule_grpc.delegation.outbound.send import Answered, Push
from molecule_grpc.delegation.outbound.store import targets
from molecule_grpc.delegation.ports import Directory
from molecule_grpc.delegation.record.writes import RecordWrites
from molecule_grpc.events.store import CHANNEL_ALL
from molecule_grpc.server.task_set import TaskSet
from molecule_grpc.server.tasks import BackgroundTask
from molecule_grpc.settings.settings import Settings

_PHANTOM_SECONDS = 300.0
# Deliveries get so long at the end, beyond what calls in sending have got.
_PATIENCE_SECONDS = 2.0


class Outbound:
    """Open it for as long as calls are served, and run `deliveries` and `tasks` meanwhile.

    Args:
        draining: whether this worker is about to end.
        tasks_changed: told of workspaces that are not busy after all.
        containers: whoever runs agents' containers; None when nobody does.
    """

    def __init__(
        self,
        pool: Pool,
        records: RecordWrites,
        writes: LedgerWrites,
        ledger: Ledger,
        directory: Directory,
        wakeups: Wakeups,
        due_workspaces: DueWorkspaces,
        settings: Settings,
        *,
        draining: Callable[[], bool] = lambda: False,
        tasks_changed: Callable[[Iterable[UUID]], None] = lambda _: None,
        containers: Containers | None = None,
    ) -> None:
        self._wakeups = wakeups
        self._pool = pool
        self._sending_tasks = TaskSet(wait_limit=_PATIENCE_SECONDS)
        dispatcher = Dispatcher(
            settings,
            sign=lambda workspace_id: targets.sign_of_life(pool, workspace_id),
            containers=containers,
        )
        queue = Queue(pool, writes, ledger, due_workspaces, settings)
        self.deliveries = Deliveries(
            pool,
            queue,
            records,
            directory,
            dispatcher,
            settings,
            wakeups=wakeups,
            due_workspaces=due_workspaces,
            tasks=self._sending_tasks,
            draining=draining,
            tasks_changed=tasks_changed,
        )
        self.push = Push(
            pool, records, queue, dispatcher, self._sending_tasks, settings, show=self._show
        )
        self.queue_queries = QueueQueries(pool, writes, ledger)
        self.tasks = [
            BackgroundTask("a2a-queue", settings.outbound.drain_interval, self.deliveries.sweep),
            BackgroundTask("a2a-leases", settings.outbound.lease / 3, queue.renew),
            BackgroundTask("phantom-busy", _PHANTOM_SECONDS, self.deliveries.reset_phantoms),
        ]

    async def __aenter__(self) -> Self:
        await self._sending_tasks.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._sending_tasks.__aexit__()

    async def _show(self, answered: Answered) -> None:
        """Tell whoever looks that a human was answered."""
        stored = answered.outcome.reply.stored
        payload = {
            "response_body": json.loads(stored) if stored else None,
            "method": answered.method,
            "duration_ms": answered.outcome.duration_ms,
        }
        await targets.show_answer(self._pool, answered.target.id, json.dumps(payload))
        self._wakeups.announce([CHANNEL_ALL])
