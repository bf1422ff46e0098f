"""Any order of requests, faults and workers' ends leaves running what the rows say, and no more."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from molecule_grpc.backends.operations.rules import Kind
from molecule_grpc.db.pool import Pool
from tests import control_plane as bad
from tests.control_plane import Behaviour, ScriptedControlPlane, control_plane
from tests.integration.operations import OperationWorker, worker_of
from tests.waiting import until

_STEPS = 40
_SLOWER = bad.failing(429)
_UNFINISHED = "SELECT count(*) FROM workspace_operations WHERE ended_at IS NULL"
_LEFT = "SELECT count(*) FROM workspace_leftovers WHERE removed_at IS NULL"
_EXPECTED = "SELECT resource_id FROM workspaces WHERE resource_id <> ''"
_FAILED_WITHOUT_REASON = """
    SELECT count(*) FROM workspace_operations
    WHERE state = 'failed' AND (reason = '' OR message = '')
"""


def a_fault(plane: ScriptedControlPlane, dice: random.Random) -> tuple[str, Behaviour]:
    """Something that goes wrong with the next call of a method, before the work or after it."""
    method = dice.choice(["POST", "DELETE", "GET"])
    wrong = dice.choice([bad.failing(500), _SLOWER, bad.garbage, bad.hang_up])
    after = dice.random() < 0.5
    if wrong is _SLOWER:  # Says that nothing was done.
        after = False
    if wrong is bad.garbage and method == "DELETE":  # Says 200, which means that it was done.
        after = True
    return method, bad.done_then(plane, wrong) if after else wrong


class Machine:
    """Workspaces, workers, and dice that decide what happens to them."""

    def __init__(
        self, plane: ScriptedControlPlane, workers: list[OperationWorker], seed: int
    ) -> None:
        self.plane = plane
        self.workers = workers
        self.dice = random.Random(seed)
        self.live: list[UUID] = []
        self.created = 0

    async def step(self) -> None:
        steps: list[tuple[int, Callable[[], Any]]] = [
            (3, self.create), (6, self.ask), (3, self.delete), (4, self.fault),
        ]  # fmt: skip
        weights = [weight for weight, _ in steps]
        [(_, chosen)] = self.dice.choices(steps, weights)
        await chosen()

    @property
    def worker(self) -> OperationWorker:
        return self.dice.choice(self.workers)

    async def create(self) -> None:
        self.created += 1
        self.live.append(await self.worker.create(f"w-{self.created}"))

    async def ask(self) -> None:
        if self.live:
            kind = self.dice.choice([Kind.START, Kind.RESTART, Kind.RESTART, Kind.STOP])
            await self.worker.ask(self.dice.choice(self.live), kind)

    async def delete(self) -> None:
        if self.live:
            gone = self.live.pop(self.dice.randrange(len(self.live)))
            purge = self.dice.random() < 0.5
            await self.worker.bench.delete(str(gone), purge=purge)
            self.worker.backends.announce()

    async def fault(self) -> None:
        method, behaviour = a_fault(self.plane, self.dice)
        self.plane.script.setdefault(method, []).append(behaviour)


@pytest.mark.parametrize("seed", [1, 2, 3, 41])
async def test_what_runs_is_what_the_rows_say(pool: Pool, database_url: str, seed: int) -> None:
    """Two workers, one of which stops in the middle and another takes its place."""
    async with (
        control_plane() as plane,
        worker_of(pool, database_url, plane, backends_concurrency=0) as stays,
        worker_of(pool, database_url, plane, backends_concurrency=0) as leaves,
        worker_of(pool, database_url, plane, backends_concurrency=0) as comes,
    ):
        machine = Machine(plane, [stays, leaves], seed)
        for number in range(_STEPS):
            if number == _STEPS // 2:
                await leaves.stop()
                machine.workers = [stays, comes]
            await machine.step()
        plane.script.clear()
        for worker in machine.workers:
            worker.backends.announce()

        async def left() -> tuple[int, int]:
            await pool.execute("UPDATE workspace_operations SET not_before = now()")
            await pool.execute("UPDATE workspace_leftovers SET not_before = now()")
            for task in stays.backends.slice.tasks:
                if task.name == "backend-leftovers":
                    await task.step()
            return await pool.fetchval(_UNFINISHED), await pool.fetchval(_LEFT)

        await until(left, lambda found: found == (0, 0))
        expected = {row["resource_id"] for row in await pool.fetch(_EXPECTED)}
        assert {each.id for each in plane.running} == expected
        assert await pool.fetchval(_FAILED_WITHOUT_REASON) == 0
