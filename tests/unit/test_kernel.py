"""What every slice builds on: pages, page tokens, budgets, sweeps."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import asyncpg
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from molecule_grpc.db.sweep import in_batches
from molecule_grpc.kernel.budget import Budget, Turns
from molecule_grpc.kernel.errors import Exhausted, Invalid
from molecule_grpc.kernel.moments import storable
from molecule_grpc.kernel.page import page_of
from molecule_grpc.kernel.page_tokens import PageTokens
from molecule_grpc.kernel.protos import timestamp

TOKENS = PageTokens(b"k" * 32)
FIRST, LAST = (each.replace(tzinfo=UTC) for each in (datetime.min, datetime.max))  # noqa: DTZ901


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 10), st.integers(1, 100))
def test_pages_end_by_rows_and_by_bytes_and_lose_nothing(
    sizes: list[int], limit: int, room: int
) -> None:
    rows, seen = list(enumerate(sizes)), 0
    while True:
        window = rows[seen : seen + limit + 1]
        page = page_of(window, limit=limit, size=lambda row: row[1], max_bytes=room)
        assert page.rows == rows[seen : seen + len(page.rows)]
        assert len(page.rows) <= limit
        assert sum(size for _, size in page.rows) <= room or len(page.rows) == 1
        seen += len(page.rows)
        assert page.more == (seen < len(rows))
        assert page.last == (page.rows[-1] if page.more else None)
        if not page.more:
            break


@given(st.datetimes(timezones=st.timezones()))
def test_a_timestamp_is_what_protobuf_makes_of_the_moment(moment: datetime) -> None:
    expected = Timestamp()
    try:
        expected.FromDatetime(moment)
    except (OverflowError, ValueError):  # Within a day of the first year or the last one.
        return
    assert timestamp(moment) == expected


def test_a_token_brings_its_parts_back() -> None:
    parts = (datetime.now(UTC), uuid4(), 7, "ü")
    token = TOKENS.make("list", *parts)
    assert TOKENS.read("list", token, datetime, UUID, int, str) == list(parts)
    assert TOKENS.read("list", "", datetime) is None


@given(st.text(max_size=80))
def test_a_token_of_somebody_else_is_refused(token: str) -> None:
    if token:
        with pytest.raises(Invalid, match="not one of ours"):
            TOKENS.read("list", token, str)


def test_a_token_is_for_its_list_and_its_installation() -> None:
    token = TOKENS.make("list", "x")
    changed = bytearray(base64.urlsafe_b64decode(token))
    changed[-1] ^= 1
    for tokens, listing, text in (
        (TOKENS, "other", token),
        (PageTokens(b"o" * 32), "list", token),
        (TOKENS, "list", base64.urlsafe_b64encode(changed).decode()),
        (TOKENS, "list", token[:-4]),
    ):
        with pytest.raises(Invalid):
            tokens.read(listing, text, str)


def test_a_budget_bounds_all_and_each() -> None:
    budget = Budget("calls", {"worker": 3, "organization": 2})
    budget.take(organization="a")
    budget.take(organization="a")
    with pytest.raises(Exhausted):
        budget.take(organization="a")
    with budget.use(organization="b"):
        assert budget.used == 3
        assert budget.room(organization="b") == 0
        with pytest.raises(Exhausted):
            budget.take(organization="c")
    budget.give_back(2, organization="a")
    assert budget.used == 0
    assert budget.room(organization="a") == 2


def turns_of(**limits: int) -> Turns:
    return Turns(Budget("searches", limits), most_waiting=3, patience=30)


async def test_who_finds_no_room_waits_for_a_turn_and_others_do_not() -> None:
    turns = turns_of(organization=2, token=1)
    await turns.take(organization="a", token="a1")
    waiting = asyncio.create_task(turns.take(organization="a", token="a1"))
    await asyncio.sleep(0)
    async with turns.turn(organization="b", token="b1"):
        assert turns.budget.used == 2
    assert not waiting.done()
    turns.give_back(organization="a", token="a1")
    await waiting
    assert [each[1:] for each in turns.budget.uses(organization="a", token="a1")] == [
        (1, 2),
        (1, 1),
    ]


async def test_turns_go_round_among_organizations_and_their_tokens() -> None:
    turns, served = turns_of(worker=1), list[str]()

    async def want(organization: str, token: str) -> None:
        await turns.take(organization=organization, token=token)
        served.append(token)

    await want("a", "a0")
    callers = [("a", "a1"), ("a", "a1"), ("a", "a2"), ("b", "b1")]
    tasks = [asyncio.create_task(want(*each)) for each in callers]
    await asyncio.sleep(0)
    for number in range(len(callers)):
        turns.give_back(organization=served[-1][0], token=served[-1])
        while len(served) < number + 2:
            await asyncio.sleep(0)
    assert served[1] == "a1"
    assert sorted(served[2:4]) == ["a2", "b1"]
    assert served[4] == "a1"
    await asyncio.gather(*tasks)


async def test_a_line_is_bounded_and_whoever_leaves_holds_up_nobody() -> None:
    turns = turns_of(organization=1)
    await turns.take(organization="a")
    waiting = [asyncio.create_task(turns.take(organization="a")) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Exhausted) as refused:
        await turns.take(organization="a")
    assert refused.value.quota == ("organization:a", "searches at once: 1 for each organization")
    assert turns.budget.refused == {"organization": 1}
    waiting[0].cancel()
    turns.give_back(organization="a")
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    waiting[2].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert turns.budget.used == 1
    turns.give_back(organization="a")
    assert turns.budget.used == 0


async def test_a_wait_without_a_turn_ends() -> None:
    turns = Turns(Budget("searches", {"worker": 1}), most_waiting=3, patience=0.01)
    await turns.take()
    with pytest.raises(Exhausted):
        await turns.take()
    turns.give_back()
    async with turns.turn():
        assert turns.budget.used == 1


async def test_a_sweep_goes_on_until_less_than_a_batch_and_shrinks_when_slow() -> None:
    left, asked = 95, []

    async def step(batch: int) -> int:
        nonlocal left
        asked.append(batch)
        if batch > 25:
            raise asyncpg.QueryCanceledError
        done = min(batch, left)
        left -= done
        return done

    assert await in_batches("test", step, batch=100) == 95
    assert asked == [100, 50, 25, 25, 25, 25]


async def test_a_sweep_that_is_slow_with_the_smallest_batch_fails() -> None:
    async def step(_: int) -> int:
        raise asyncpg.QueryCanceledError

    with pytest.raises(asyncpg.QueryCanceledError):
        await in_batches("test", step, batch=40)


@pytest.mark.parametrize(("extreme", "inward"), [(FIRST, 1), (LAST, -1)])
def test_the_first_and_the_last_moment_are_not_storable(extreme: datetime, inward: int) -> None:
    """And nothing beyond them; a microsecond away from them is."""
    near = extreme + timedelta(microseconds=inward)
    assert storable(near) == near
    for zone in (UTC, timezone(timedelta(hours=inward))):
        with pytest.raises(ValueError, match="out of range"):
            storable(extreme.replace(tzinfo=zone))
