"""Whatever callers, callees, strangers and the platform do at once, the ledger tells one story."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar
from uuid import UUID

import asyncpg
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

from molecule_grpc.db.pool import Pool, connect_pool
from molecule_grpc.delegation.ledger.moves import draft_move
from molecule_grpc.delegation.ledger.rules import FINAL, Status
from molecule_grpc.kernel.errors import Aborted, NotFound
from molecule_grpc.kernel.text import clean, cut_bytes
from tests.conftest import LONG
from tests.integration.agents import Slice, hire, slice_of
from tests.loops import Loop

T = TypeVar("T")

_RANK = {"queued": 0, "dispatched": 1, "in_progress": 2, "completed": 3, "failed": 3, "stuck": 3}
_TEXTS = st.one_of(
    st.sampled_from(["", "done", "nul\x00inside", "x" * 4095 + "€", "😀" * 1100]),
    st.text(max_size=12),
)


@dataclass
class World:
    """Two workers over one database."""

    loop: Loop
    pool: Pool
    workers: list[Slice]


@contextlib.contextmanager
def world_of(dsn: str) -> Iterator[World]:
    """Open two workers; close them."""
    loop = Loop()
    stack = contextlib.AsyncExitStack()

    async def open_() -> World:
        pool = await connect_pool(dsn, min_size=1, max_size=8)
        stack.push_async_callback(pool.close)
        workers = [await stack.enter_async_context(slice_of(dsn, pool)) for _ in range(2)]
        return World(loop, pool, workers)

    try:
        yield loop.run(open_())
    finally:
        loop.run(stack.aclose())
        loop.close()


@dataclass
class Deal:
    """A delegation as the test knows it."""

    name: str
    caller: UUID
    callee: UUID
    attempts: int
    handed_over: bool
    # Texts that a party has reported.
    results: set[str] = field(default_factory=set)
    seen: asyncpg.Record | None = None
    # Whether a completion came after the ledger had given up; None when it may have.
    late: bool | None = False


@dataclass(frozen=True)
class Act:
    """Something that somebody does to a delegation."""

    who: str
    what: str
    text: str
    worker: int


_ACTS = st.builds(
    Act,
    who=st.sampled_from(["caller", "callee", "callee", "stranger"]),
    what=st.sampled_from(["complete", "fail", "beat", "cancel"]),
    text=_TEXTS,
    worker=st.integers(0, 1),
) | st.builds(
    Act,
    who=st.just("platform"),
    what=st.sampled_from(["stuck", "deadline"]),
    text=st.just("gave up"),
    worker=st.integers(0, 1),
)


_STRANGE = st.builds(
    Act,
    who=st.just("stranger"),
    what=st.sampled_from(["complete", "fail", "beat", "cancel"]),
    text=_TEXTS,
    worker=st.integers(0, 1),
)


class Ledger(RuleBasedStateMachine):
    """Bursts of concurrent calls, and what must hold after each."""

    world: ClassVar[World]
    deals = Bundle("deals")

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, Deal] = {}
        self.keys: dict[tuple[UUID, str], tuple[str, str]] = {}

    @initialize()
    def staff(self) -> None:
        self.caller, self.other, self.callee, self.stranger = self._run(hire(self.world.pool, 4))

    @rule(target=deals, attempts=st.sampled_from([1, 1, 3]), task=_TEXTS.filter(clean))
    def delegate(self, attempts: int, task: str) -> Deal:
        worker = self.world.workers[0]
        name = self._run(worker.delegate(self.caller, self.callee, task, max_attempts=attempts))
        return self._learn(Deal(name, self.caller, self.callee, attempts, True))

    @rule(target=deals)
    def record(self) -> Deal:
        name = f"{self.caller}/{len(self.known)}"
        for worker in self.world.workers:
            self._run(worker.record(self.caller, self.callee, name))
        with pytest.raises(Aborted):
            self._run(self.world.workers[0].record(self.other, self.callee, name))
        return self._learn(Deal(name, self.caller, self.callee, 1, False))

    @rule(
        key=st.sampled_from(["a", "b"]),
        task=st.sampled_from(["one", "two"]),
        times=st.integers(1, 4),
        other=st.booleans(),
    )
    def delegate_with_key(self, key: str, task: str, times: int, other: bool) -> None:
        """D2: at once, on both workers; one delegation comes of it, or a refusal for all."""
        caller = self.other if other else self.caller

        async def race() -> list[str | BaseException]:
            return await asyncio.gather(
                *(
                    self.world.workers[n % 2].delegate(caller, self.callee, task, key)
                    for n in range(times)
                ),
                return_exceptions=True,
            )

        outcomes = self._run(race())
        earlier = self.keys.get((caller, key))
        if earlier is not None and self._run(self._row(earlier[0]))["status"] != "failed":
            if earlier[1] != task:
                assert all(isinstance(end, Aborted) for end in outcomes)
            else:
                assert set(outcomes) == {earlier[0]}
            return
        (name,) = set(outcomes)
        assert isinstance(name, str)
        assert earlier is None or name != earlier[0]
        self.keys[caller, key] = name, task
        self._learn(Deal(name, caller, self.callee, 1, True))

    @rule(deal=deals, acts=st.lists(_ACTS, min_size=1, max_size=6))
    def burst(self, deal: Deal, acts: list[Act]) -> None:
        """D4, D5: everybody at once. Who is told that it applied is who the ledger quotes."""
        given_up = _given_up(self._run(self._row(deal.name)))
        applied = self._run(self._all(deal, acts))
        after = self._run(self._row(deal.name))
        for act, took in zip(acts, applied, strict=True):
            if act.who != "stranger" and act.what == "complete":
                deal.results.add(clean(act.text))
                if given_up:
                    deal.late = True
                elif _given_up(after):
                    deal.late = None
                if took:
                    assert (after["status"], after["result"]) == ("completed", clean(act.text))
            if took and act.what in ("stuck", "deadline"):
                assert after["status"] in ("stuck", "failed")

    @rule(deal=deals, acts=st.lists(_STRANGE, min_size=1, max_size=3))
    def strangers(self, deal: Deal, acts: list[Act]) -> None:
        """Whatever they try, nothing moves."""
        before = self._run(self._row(deal.name))
        self._run(self._all(deal, acts))
        assert self._run(self._row(deal.name)) == before

    @rule(deal=deals)
    def same_report_again(self, deal: Deal) -> None:
        """D5: it succeeds, and changes no column."""
        row = self._run(self._row(deal.name))
        if row["status"] != "completed":
            return
        again = self.world.workers[0].update(deal.callee, deal.name, "completed", row["result"])
        assert self._run(again).applied
        assert self._run(self._row(deal.name)) == row

    @invariant()
    def one_story_is_told(self) -> None:
        for deal in self.known.values():
            row = self._run(self._row(deal.name))
            self._is_final(deal, row)
            deal.seen = row
            self._text_is_kept(deal, row)
            self._caller_hears_of_the_end_once(deal, row)
            self._record_agrees(deal, row)
            self._callee_gets_one_item_an_attempt(deal, row)
        if self.known:
            self._numbers_have_no_holes()

    def _is_final(self, deal: Deal, row: asyncpg.Record) -> None:
        """D4: it only moves forward, and what has ended never changes again."""
        if deal.seen is not None:
            assert _RANK[deal.seen["status"]] <= _RANK[row["status"]]
            if deal.seen["status"] in FINAL:
                assert row == deal.seen

    def _text_is_kept(self, deal: Deal, row: asyncpg.Record) -> None:
        """D9, D12: whole in `result`, its start in the preview."""
        assert (row["result"] is not None) == (row["status"] == "completed")
        if row["status"] == "completed":
            assert row["result"] in deal.results
            assert row["result_preview"] == cut_bytes(row["result"])
        if row["status"] in ("failed", "stuck"):
            assert row["error_detail"]
        for column in ("task_preview", "result_preview", "error_detail"):
            assert len((row[column] or "").encode()) <= 4096

    def _caller_hears_of_the_end_once(self, deal: Deal, row: asyncpg.Record) -> None:
        """D14: one item of the end, and one of a late result."""
        ends = self._run(self._items(deal, deal.caller, "delegate_result"))
        first = [item for item in ends if not item["late"]]
        assert len(first) == (row["status"] in FINAL)
        late = len(ends) - len(first)
        assert late == (late == 1 if deal.late is None else deal.late)
        deal.late = late == 1
        for item in first:
            done = row["status"] == "completed"
            assert item["activity_status"] == ("ok" if done else "error")

    def _record_agrees(self, deal: Deal, row: asyncpg.Record) -> None:
        """D10, D11, D23: the newest row about a delegation says what the ledger says."""
        handed = "pending" if deal.handed_over else "dispatched"
        end = [row["status"]] if row["status"] in FINAL else []
        assert self._run(self._told(deal)) == [handed, *end]

    def _callee_gets_one_item_an_attempt(self, deal: Deal, row: asyncpg.Record) -> None:
        items = self._run(self._items(deal, deal.callee, "delegate"))
        assert len(items) == (row["retry_count"] + 1 if deal.handed_over else 0)
        assert row["retry_count"] < deal.attempts

    def _numbers_have_no_holes(self) -> None:
        for workspace_id in (self.caller, self.other, self.callee):
            seqs = [item["seq"] for item in self._run(self.world.workers[0].items(workspace_id))]
            assert seqs == list(range(1, len(seqs) + 1))
            rows = self._run(self.world.workers[0].record_of(workspace_id))
            assert [row["record_seq"] for row in rows] == list(range(1, len(rows) + 1))

    async def _all(self, deal: Deal, acts: list[Act]) -> list[bool]:
        return await asyncio.gather(*(self._act(deal, act) for act in acts))

    async def _act(self, deal: Deal, act: Act) -> bool:
        """Do it; whether it applied. A stranger finds nothing."""
        worker = self.world.workers[act.worker]
        if act.who == "platform":
            return await self._give_up(worker, deal, act)
        actor = {"caller": deal.caller, "callee": deal.callee}.get(act.who, self.stranger)
        try:
            return await _report(worker, actor, deal.name, act)
        except NotFound:
            assert act.who == "stranger" or (act.what, act.who) == ("cancel", "callee")
            return False

    async def _give_up(self, worker: Slice, deal: Deal, act: Act) -> bool:
        to = Status.STUCK if act.what == "stuck" else Status.FAILED
        reason = None if act.what == "stuck" else "deadline"
        move = draft_move(deal.name, deal.caller, to, error=act.text, reason=reason)
        return (await worker.writes.move(move)).moved

    async def _row(self, name: str) -> asyncpg.Record:
        return await self.world.workers[0].row(name)

    async def _items(self, deal: Deal, whose: UUID, method: str) -> list[asyncpg.Record]:
        items = await self.world.workers[0].items(whose, method)
        return [item for item in items if item["delegation_id"] == deal.name]

    async def _told(self, deal: Deal) -> list[str]:
        rows = await self.world.pool.fetch(
            """
            SELECT status FROM activity_logs
            WHERE workspace_id = $1 AND activity_type = 'delegation'
              AND response_body->>'delegation_id' = $2
            ORDER BY record_seq
            """,
            deal.caller,
            deal.name,
        )
        return [row["status"] for row in rows]

    def _learn(self, deal: Deal) -> Deal:
        self.known[deal.name] = deal
        return deal

    def _run(self, step: Coroutine[Any, Any, T]) -> T:
        return self.world.loop.run(step)


def _given_up(row: asyncpg.Record) -> bool:
    return bool(row["status"] == "stuck" or row["failure_reason"] == "deadline")


async def _report(worker: Slice, actor: UUID, name: str, act: Act) -> bool:
    match act.what:
        case "complete":
            return (await worker.update(actor, name, "completed", act.text)).applied
        case "fail":
            return (await worker.update(actor, name, "failed", error=act.text)).applied
        case "beat":
            return (await worker.beat(actor, name)).applied
    return (await worker.ledger.moves.cancel(actor, name, reason="")).applied


def test_ledger_tells_one_story_whatever_happens_at_once(database_url: str) -> None:
    """D2, D4, D5, D9 to D12, D14, D23: state, text, inbox and record, after every burst."""
    with world_of(database_url) as world:
        Ledger.world = world
        run_state_machine_as_test(
            Ledger,
            settings=settings(
                max_examples=25 if LONG else 10,
                stateful_step_count=10,
                deadline=None,
                database=None,
                # What happens at once never happens twice the same way: nothing to shrink.
                phases=[Phase.generate],
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
