"""Whatever a fleet asks of the running server, and however it dies meanwhile: no promise breaks.

TEST_LONG=1 looks for longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import asyncpg
import grpc
import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from moleculeai.delegation.v1 import delegation_service_pb2 as pb
from moleculeai.workspace.v1 import workspace_service_pb2 as workspace_pb

from tests import fake_agent as agents
from tests.conftest import LONG
from tests.e2e.calling import register
from tests.e2e.parties import Party, Refused, Wire, found
from tests.e2e.server_model import FINAL, Box, Deal, Delegation, insist
from tests.fake_agent import FakeAgent, Received, Writer
from tests.loops import Loop
from tests.running import RunningServer
from tests.waiting import PATIENCE

T = TypeVar("T")

# Short enough to meet within an example, long enough to be something else than the others.
_QUICK = {
    "WORKERS": "2",
    "MOLECULE_ENV": "development",
    "DELEGATION_SWEEPER_INTERVAL_S": "0.3",
    "DELEGATION_STUCK_THRESHOLD_S": "3",
    "MOLECULE_A2A_DRAIN_INTERVAL_S": "0.5",
    "MOLECULE_A2A_LEASE_SECONDS": "2",
    "MOLECULE_A2A_BACKOFF_SECONDS": "0.1",
    "MOLECULE_A2A_RETRY_SECONDS": "0.1",
}
# Reconnect within 0.2 s of a server's return.
_EAGER = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200)]

# Texts by how often they repeat, so that a failing example is short: beyond the preview, and beyond
# what an inbox item carries itself.
_TEXTS = st.builds(
    str.__mul__, st.sampled_from("xyz€"), st.sampled_from([0, 1, 1, 2, 2000, 300_000])
)
# How an agent at a URL answers its first calls; every later call is answered well.
_ANSWERS = st.lists(st.sampled_from(["echo", "slow", "error", "busy", "refuse"]), max_size=3)


@dataclass(frozen=True)
class Act:
    """Something that a party does to a delegation."""

    who: str
    what: str
    text: str


_ACTS = st.builds(
    Act,
    who=st.sampled_from(["caller", "callee", "callee"]),
    what=st.sampled_from(
        ["complete", "fail", "fail again", "fail again", "run", "beat", "list", "cancel"]
    ),
    text=_TEXTS,
)


@dataclass
class World:
    """The server, an agent at a URL, and clients of both."""

    loop: Loop
    server: RunningServer
    wire: Wire
    operator: Party
    database: asyncpg.Connection[asyncpg.Record]
    agent: FakeAgent
    next_worker_at: float = 0.0


@contextlib.contextmanager
def world_of(server: RunningServer) -> Iterator[World]:
    """Open it; close it."""
    loop = Loop()
    stack = contextlib.AsyncExitStack()

    async def open_() -> World:
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=server.url, timeout=20))
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(server.grpc_target, _EAGER)
        )
        database = await asyncpg.connect(server.database_url)
        stack.push_async_callback(database.close)
        agent = await stack.enter_async_context(agents.fake_agent())
        wire = Wire(http, channel)
        return World(loop, server, wire, wire.party(server.admin_token), database, agent)

    try:
        yield loop.run(open_())
    finally:
        loop.run(stack.aclose())
        loop.close()


class Fleet(RuleBasedStateMachine):
    """Two callers, one agent that reads its inbox, one that is called at a URL."""

    world: ClassVar[World]
    deals = Bundle("deals")

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, Deal] = {}
        self.keys: dict[str, Deal] = {}
        self.plans: dict[str, list[str]] = {}
        self.by_task: dict[str, Deal] = {}
        self.counter = itertools.count()
        self.world.agent.behave = self._work

    @initialize()
    def hire(self) -> None:
        async def hired() -> None:
            self.org = await found(self.world.wire, self.world.operator)
            self.callers = [await self.org.hire() for _ in range(2)]
            self.reader = await self.org.hire()
            self.called = await self.org.hire()
            await register(self.called, self.world.agent.url)

        self._run(hired())
        self.boxes = {one.id: Box(one) for one in (*self.callers, self.reader, self.called)}

    @rule(
        target=deals,
        caller=st.integers(0, 1),
        pushed=st.booleans(),
        attempts=st.sampled_from([1, 3, 3]),
        deadline=st.sampled_from([0, 0, 0, 1]),
        plan=_ANSWERS,
    )
    def delegate(
        self, caller: int, pushed: bool, attempts: int, deadline: int, plan: list[str]
    ) -> Deal:
        """What is asked once, while the server is well, is there once."""
        request = self._request(caller, pushed, attempts, deadline, plan)
        answer = self._run(self.callers[caller].rpc(request))
        return self._learn(answer.delegation_id, request)

    @rule(
        target=deals,
        pushed=st.booleans(),
        key=st.sampled_from(["a", "b"]),
        same=st.booleans(),
        times=st.integers(1, 3),
        how=st.sampled_from(["stay"] * 9 + ["server", "worker"]),
    )
    def delegate_once(self, pushed: bool, key: str, same: bool, times: int, how: str) -> Deal:
        """P5: however often, at once and across a crash, a key makes one."""
        earlier = self.keys.get(key)
        request = self._request(0, pushed, 1, 0, [])
        request.idempotency_key = key
        if earlier is not None and same:
            request.task, request.target_id = earlier.task, earlier.callee.id
        calls = [insist(self.callers[0], request) for _ in range(times)]
        outcomes = self._run(self._meanwhile(calls, how))
        if any(isinstance(one, BaseException) for one in outcomes):
            assert earlier is not None
            assert not same
            assert all(isinstance(one, Refused) for one in outcomes), outcomes
            assert {one.reason for one in outcomes} == {"IDEMPOTENCY_MISMATCH"}
            return earlier
        [name] = {one.delegation_id for one in outcomes}
        if earlier is not None and name == earlier.name:
            assert same
            return earlier
        if earlier is not None:
            self._run(earlier.look())
            assert earlier.status == "failed", "the key was not free"
        self.keys[key] = self._learn(name, request)
        return self.keys[key]

    @rule(target=deals, caller=st.integers(0, 1), times=st.integers(1, 2))
    def record(self, caller: int, times: int) -> Deal:
        """The agent handed it over by itself. A repeat is success."""
        name = f"own-{self.callers[caller].id[:13]}-{next(self.counter)}"
        request = pb.RecordDelegationRequest(
            workspace_id=self.callers[caller].id, target_id=self.reader.id, task="t",
            delegation_id=name,
        )  # fmt: skip
        for _ in range(times):
            self._run(insist(self.callers[caller], request))
        deal = Deal(name, self.callers[caller], self.reader, "t", handed=False)
        self.known[name] = deal
        return deal

    @rule(deal=deals, act=_ACTS)
    def act(self, deal: Deal, act: Act) -> None:
        self._run(self._do(deal, act))

    @rule(
        deal=deals,
        other=deals,
        acts=st.lists(st.tuples(st.booleans(), _ACTS), min_size=2, max_size=5),
        how=st.sampled_from(["stay"] * 9 + ["server", "worker"]),
    )
    def acts_at_once(self, deal: Deal, other: Deal, acts: list[tuple[bool, Act]], how: str) -> None:
        """Of two ends at once one wins; a call without an answer is repeated."""
        steps = [self._do(deal if one else other, act) for one, act in acts]
        for outcome in self._run(self._meanwhile(steps, how)):
            if isinstance(outcome, BaseException):
                raise outcome

    @rule(deal=deals, silent=st.booleans())
    def sweep(self, deal: Deal, silent: bool) -> None:
        """Time passes. The running server ends what nobody will finish."""
        column, end = ("last_heartbeat", "stuck") if silent else ("deadline", "deadline")
        deal.ends.add(end)
        self._run(self._age(column, "delegation_id", deal.name))
        if not silent:
            self._run(self._ended(deal))

    @rule(tasks=st.integers(0, 2))
    def drain(self, tasks: int) -> None:
        """The agent at a URL reports its tasks: with room, it is sent the next messages."""
        beat = workspace_pb.HeartbeatRequest(workspace_id=self.called.id, active_tasks=tasks)
        self._run(insist(self.called, beat))

    @rule(whose=st.integers(0, 3), picks=st.lists(st.integers(0, 9), min_size=1, max_size=4),
          through=st.booleans())  # fmt: skip
    def ack(self, whose: int, picks: list[int], through: bool) -> None:
        """Several at once, each at whichever worker: the mark comes to where the done ones end."""
        box = list(self.boxes.values())[whose]
        undone = box.undone
        if not undone:
            return
        chosen = sorted({undone[pick % len(undone)] for pick in picks})
        if through and not box.missing:
            requests = [pb.AckInboxRequest(workspace_id=box.owner.id, up_to_seq=chosen[-1])]
            chosen = list(range(1, chosen[-1] + 1))
        else:
            requests = [pb.AckInboxRequest(workspace_id=box.owner.id, seqs=[seq]) for seq in chosen]
        self._run(_all([insist(box.owner, request) for request in requests]))
        box.done.update(chosen)

    @invariant()
    def promises_hold(self) -> None:
        if self.known:
            self._run(self._check())

    def teardown(self) -> None:
        """Past its deadline every accepted delegation ends."""
        if not self.known:
            return
        for deal in self.known.values():
            deal.ends.add("deadline")
        self._run(self._age("deadline", "organization_id::text", self.org.id))
        self.drain(0)
        self._run(self._all_ended(), timeout=200)
        self._run(self._check())
        assert all(deal.status in FINAL for deal in self.known.values())

    # How it is done.

    def _request(
        self, caller: int, pushed: bool, attempts: int, deadline: int, plan: list[str]
    ) -> pb.DelegateRequest:
        task = f"task {next(self.counter)} of {self.org.id}"
        self.plans[task] = list(plan)
        return pb.DelegateRequest(
            workspace_id=self.callers[caller].id,
            target_id=(self.called if pushed else self.reader).id,
            task=task,
            max_attempts=attempts,
            retry_backoff_seconds=1,
            deadline_seconds=deadline,
        )

    def _learn(self, name: str, request: pb.DelegateRequest) -> Deal:
        assert name not in self.known
        pushed = request.target_id == self.called.id
        deal = Deal(
            name,
            next(one for one in self.callers if one.id == request.workspace_id),
            self.called if pushed else self.reader,
            request.task,
            attempts=request.max_attempts,
        )
        if request.deadline_seconds:
            deal.ends.add("deadline")
        if pushed:
            deal.results.add(f"echo: {request.task}")
            # A call that lost its answer may have reached the agent: its result may come twice.
            deal.ends.update({"agent_error", "refused", "unreachable"})
            deal.failures = deal.attempts
        self.known[name] = deal
        return deal

    async def _work(self, request: Received, writer: Writer) -> None:
        """Answer as planned for this task."""
        plan = self.plans.get(request.text, [])
        word = plan.pop(0) if plan else "echo"
        if word == "slow":
            await asyncio.sleep(0.3)
        error = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": "no luck"}}
        behaviours: dict[str, agents.Behaviour] = {
            "error": agents.answers(200, error),
            "refuse": agents.answers(400, {"error": "not this"}),
            "busy": agents.hangs_up,
        }
        await behaviours.get(word, agents.echo)(request, writer)

    async def _do(self, deal: Deal, act: Act) -> None:
        """Take the step, and note the ends and results that are possible from then on."""
        actor = deal.caller if act.who == "caller" else deal.callee
        names = {"workspace_id": actor.id, "delegation_id": deal.name}
        match act.what:
            case "complete":
                deal.results.add(act.text)
                given_up = deal.given_up
                report = pb.UpdateDelegationRequest(
                    **names, status=Delegation.completed, response_preview=act.text
                )
                if (await insist(actor, report)).applied:
                    deal.told = ("completed", act.text)
                deal.late |= given_up
            case "fail" | "fail again":
                deal.ends.add("agent_error")
                deal.failures += 1
                report = pb.UpdateDelegationRequest(
                    **names, status=Delegation.failed, error=act.text
                )
                for _ in range(1 if act.what == "fail" else 2):
                    await insist(actor, report)
            case "run" | "beat" | "list":
                deal.ends.add("stuck")
                await insist(actor, _beat(act, names))
            case "cancel":
                deal.ends.add("cancelled")
                cancel = pb.CancelDelegationRequest(
                    workspace_id=deal.caller.id, delegation_id=deal.name
                )
                if (await insist(deal.caller, cancel)).applied:
                    deal.told = ("failed", "cancelled")

    async def _meanwhile(self, steps: list[Coroutine[Any, Any, T]], how: str) -> list[Any]:
        """Take steps at once, and let something die in the middle of them."""
        taken = asyncio.gather(*steps, return_exceptions=True)
        if how != "stay":
            await asyncio.sleep(0.003)
        now = time.monotonic()
        if how == "worker" and now > self.world.next_worker_at:
            # One that dies again and again is started again later and later.
            self.world.next_worker_at = now + 60
            self.world.server.workers()[0].kill()
        elif how != "stay":
            await asyncio.to_thread(self.world.server.restart)
        outcomes = await taken
        if how != "stay":
            await self._well_again()
        return outcomes

    async def _well_again(self) -> None:
        """Both workers serve: the edge sends nothing where nobody is."""
        in_a_row = 0
        async with asyncio.timeout(PATIENCE):
            while in_a_row < 20 or len(self.world.server.workers()) < 2:
                try:
                    await self.org.rpc(
                        workspace_pb.GetWorkspaceRequest(workspace_id=self.reader.id)
                    )
                    in_a_row += 1
                except Refused:
                    in_a_row = 0
                    await asyncio.sleep(0.05)

    async def _check(self) -> None:
        deals = list(self.known.values())
        await _all([deal.look() for deal in deals])
        await _all([box.look() for box in self.boxes.values()])
        # What ended between the two looks.
        await _all([deal.look() for deal in deals if deal.status not in FINAL])
        await _all([self.boxes[one.id].look() for one in self.callers])
        for deal in deals:
            if deal.status in FINAL:
                deal.check_items(self.boxes[deal.caller.id])
        for one in self.callers:
            assert not self.boxes[one.id].missing, "an inbox has a hole"

    async def _age(self, column: str, by: str, value: str) -> None:
        await self.world.database.execute(
            f"""
            UPDATE delegations SET {column} = now() - interval '1 hour'
            WHERE {by} = $1 AND status IN ('queued', 'dispatched', 'in_progress')
              AND {column} IS NOT NULL
            """,
            value,
        )

    async def _ended(self, deal: Deal) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                await deal.look()
                if deal.status in FINAL:
                    return
                await asyncio.sleep(0.05)

    async def _all_ended(self) -> None:
        """Delegations, also those nobody was told of; the queue; and items that come again."""
        await _until(self._none_of("delegations d", "organization_id = $1", "in_progress"))
        await _until(
            self._none_of(
                "a2a_queue q JOIN workspaces w ON w.id = q.workspace_id",
                "w.organization_id = $1",
                "dispatched",
            )
        )
        boxes = list(self.boxes.values())

        async def all_shown() -> bool:
            await _all([box.look() for box in boxes])
            return not any(box.missing for box in boxes)

        await _until(all_shown)

    def _none_of(
        self, table: str, bound: str, last: str
    ) -> Callable[[], Coroutine[Any, Any, bool]]:
        live = {"in_progress": "d.status", "dispatched": "q.status"}[last]

        async def none() -> bool:
            sql = (
                f"SELECT count(*) FROM {table} WHERE {bound}"
                f" AND {live} IN ('queued', 'dispatched', 'in_progress')"
            )
            count: int = await self.world.database.fetchval(sql, self.org.id)
            return count == 0

        return none

    def _run(self, step: Coroutine[Any, Any, T], *, timeout: float = 100) -> T:
        return self.world.loop.run(step, timeout=timeout)


def _beat(act: Act, names: dict[str, str]) -> Any:
    """A sign of work, in each of its three forms."""
    match act.what:
        case "run":
            return pb.UpdateDelegationRequest(**names, status=Delegation.in_progress)
        case "beat":
            return pb.HeartbeatDelegationRequest(**names, note=act.text[:9], percent=40)
    return workspace_pb.HeartbeatRequest(
        workspace_id=names["workspace_id"], active_delegations=[names["delegation_id"]]
    )


async def _all(steps: list[Coroutine[Any, Any, T]]) -> list[T]:
    return await asyncio.gather(*steps)


async def _until(true: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await true():
            await asyncio.sleep(0.1)


@pytest.mark.timeout(1800 if LONG else 300)
def test_no_promise_breaks_whatever_happens(own_server: Callable[..., RunningServer]) -> None:
    """P1 to P5: ends are final and told once, texts whole, numbers without holes, nothing stuck."""
    with world_of(own_server(**_QUICK)) as world:
        Fleet.world = world
        run_state_machine_as_test(
            Fleet,
            settings=settings(
                max_examples=300 if LONG else 4,
                stateful_step_count=30 if LONG else 15,
                deadline=None,
                database=None,
                # What happens at once never happens twice the same way: nothing to shrink.
                phases=[Phase.generate],
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
