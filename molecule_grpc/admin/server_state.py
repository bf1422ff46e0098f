"""Whether this worker can serve, and how its background tasks do."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from molecule_grpc.admin.ports import Healthy, TaskState, TaskStates
from molecule_grpc.admin.values import SubsystemState
from molecule_grpc.db.pool import database_unavailable


class ServerState:
    """Tells operators and load balancers of this worker.

    Args:
        healthy: whether the database answers.
        tasks: the background tasks of this worker, by name.
    """

    def __init__(self, healthy: Healthy, tasks: TaskStates) -> None:
        self._healthy = healthy
        self._tasks = tasks

    async def require_healthy(self) -> None:
        """Raise unless the database answers.

        Raises:
            Unavailable: DATABASE_UNAVAILABLE.
        """
        if not await self._healthy():
            raise database_unavailable()

    def subsystems(self) -> dict[str, SubsystemState]:
        """The state of every background task, by name."""
        now = time.time()
        return {name: _state(task, now) for name, task in self._tasks().items()}


def _state(task: TaskState, now: float) -> SubsystemState:
    last = task.last_success
    ago = 0.0 if last is None else max(0.0, now - last)
    return SubsystemState(
        last_success=None if last is None else datetime.fromtimestamp(last, UTC),
        seconds_ago=ago,
        period=task.period,
        stale=last is None or ago > 2 * task.period,
        failures=task.failures,
    )
