"""Long work in slices: the loop turns, organisations take turns, and JSON stays what it was."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from google.protobuf import json_format, struct_pb2

from molecule_grpc.delegation.conversion import record
from molecule_grpc.delegation.record.store.queries import ActivityRow
from molecule_grpc.kernel.json_values import put_value, read_value, value
from molecule_grpc.kernel.payer import Payer, payer
from molecule_grpc.kernel.slices import Slices, in_slices
from molecule_grpc.server.call import Call

T = TypeVar("T")


def spin(seconds: float) -> None:
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


async def with_turns(work: Awaitable[T]) -> tuple[T, int]:
    """The work's result, and how often the loop turned meanwhile."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    result = await work
    counting.cancel()
    return result, turns


async def test_the_loop_turns_after_each_millisecond() -> None:
    def double(number: int) -> int:
        spin(0.0005)
        return 2 * number

    doubled, turns = await with_turns(in_slices(double, range(40)))
    assert doubled == [2 * n for n in range(40)]
    assert turns >= 10


async def test_one_slice_runs_in_a_turn_and_organizations_take_turns() -> None:
    ran: list[str] = []

    async def work(who: str) -> None:
        payer.set(Payer(who))
        slices = Slices()
        for _ in range(3):
            await slices.rest()
            ran.append(who)

    async def turns() -> None:
        while len(ran) < 12:
            before = len(ran)
            await asyncio.sleep(0)
            assert len(ran) <= before + 1

    many = [work("greedy") for _ in range(3)]
    await asyncio.gather(*many, work("light"), turns())
    assert [ran.index("light"), ran[:6].count("light")] == [1, 3]


async def test_who_is_cancelled_in_the_line_keeps_nobody_waiting() -> None:
    async def work() -> None:
        await Slices().rest()

    first, second, third = (asyncio.create_task(work()) for _ in range(3))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(first, third)
    assert second.cancelled()
    await work()


async def test_a_page_of_many_rows_and_a_row_of_many_parts_let_the_loop_turn() -> None:
    body = json.dumps({"parts": [{"kind": "text", "n": n} for n in range(20)]})
    large = json.dumps({"parts": [{"kind": "text", "n": n} for n in range(20_000)]})
    call = Call(metadata={})
    page, turns = await with_turns(record.activities([a_row(body) for _ in range(500)], call))
    assert len(page.rows) == 500
    assert turns >= 5
    whole, turns = await with_turns(record.activity(a_row(large), call))
    assert json_format.MessageToDict(whole.request_body) == json.loads(large)
    assert turns >= 5


def a_row(body: str) -> ActivityRow:
    return ActivityRow(
        id=uuid4(),
        workspace_id=uuid4(),
        activity_type="agent_log",
        source_id=None,
        target_id=None,
        method=None,
        summary="what happened",
        request_body=body,
        response_body=None,
        tool_trace=None,
        duration_ms=None,
        status="ok",
        error_detail=None,
        created_at=datetime.now(UTC),
        inbox_seq=None,
        record_seq=1,
    )


def any_json(chance: random.Random, depth: int = 4) -> Any:
    kind = chance.randrange(9 if depth else 7)
    if kind >= 7:
        size = chance.randrange(5)
        if kind == 7:
            return [any_json(chance, depth - 1) for _ in range(size)]
        return {chance.choice("abcdeü") * n: any_json(chance, depth - 1) for n in range(size)}
    numbers = (chance.randrange(-(10**9), 10**9), chance.random(), 1e300, 0.0)
    return chance.choice((None, True, False, "", "ü\u0001\U0001f600", *numbers))


@pytest.mark.parametrize("seed", range(50))
async def test_json_goes_into_values_and_back_as_json_format_does_it(seed: int) -> None:
    data = any_json(random.Random(seed))
    wanted = struct_pb2.Value()
    json_format.ParseDict(data, wanted)
    made = struct_pb2.Value()
    assert not await put_value(made, json.dumps(data), Slices(), mark=False)
    assert made == wanted == value(json.dumps(data))
    assert made.SerializeToString(deterministic=True) == wanted.SerializeToString(
        deterministic=True
    )
    back = await read_value(made, Slices())
    assert json.dumps(back, sort_keys=True) == json.dumps(
        json_format.MessageToDict(wanted), sort_keys=True
    )


async def test_numbers_that_json_lacks_are_refused() -> None:
    for number in (float("nan"), float("inf")):
        holding = struct_pb2.Value(list_value=struct_pb2.ListValue())
        holding.list_value.values.add(number_value=number)
        with pytest.raises(ValueError, match="NaN"):
            await read_value(holding, Slices())
