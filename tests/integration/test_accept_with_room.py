"""ACCEPT_WITH_ROOM holds the limits of ACCEPT, and changes no row at a limit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from molecule_grpc.db.pool import Pool, Writer
from molecule_grpc.delegation.ledger.store.accept import accept_with_room
from molecule_grpc.delegation.ledger.store.limits import Limits
from molecule_grpc.delegation.record.store import usage
from molecule_grpc.quotas import UNLIMITED
from tests.integration.agents import ORGANIZATION, draft, hire

ROOM = 3
NO_LIMITS = Limits(UNLIMITED, UNLIMITED)
_STATE = """
    SELECT (SELECT count(*) FROM delegations), (SELECT count(*) FROM activity_logs),
           (SELECT count(*) FROM inbox_items), (SELECT count(*) FROM structure_events),
           (SELECT array_agg(h ORDER BY h) FROM inbox_heads h)::text,
           (SELECT array_agg(u ORDER BY u) FROM organization_usage u)::text
"""


@pytest.fixture
async def writer(database_url: str) -> AsyncIterator[Writer]:
    opened = Writer(database_url)
    yield opened
    await opened.close()


@pytest.fixture
async def agents(pool: Pool) -> list[UUID]:
    return list(await hire(pool, 5))


async def bytes_of_one(writer: Writer, pool: Pool, caller: UUID, callee: UUID) -> int:
    """What a delegation adds to the bytes of the day."""
    assert await accept_with_room(writer, [draft(caller, callee)], NO_LIMITS)
    return (await usage.of_organization(pool, ORGANIZATION)).bytes


@pytest.mark.parametrize("limit", Limits._fields)
@pytest.mark.parametrize("at_once", [True, False], ids=["in one batch", "one by one"])
async def test_the_last_one_with_room_is_taken_and_the_next_one_changes_nothing(
    writer: Writer, pool: Pool, agents: list[UUID], limit: str, at_once: bool
) -> None:
    caller, callee, *_ = agents
    drafts = [draft(caller, callee) for _ in range(ROOM + 1)]
    most = ROOM
    if limit == "max_bytes":
        most = ROOM * drafts[0].bytes
    if limit == "day_bytes":
        # The inbox holds one delegation before the batch.
        most = (ROOM + 1) * await bytes_of_one(writer, pool, *agents[2:4])
    limits = NO_LIMITS._replace(**{limit: most})
    before = await pool.fetchrow(_STATE)
    if at_once:
        assert await accept_with_room(writer, drafts, limits) is None
        assert await pool.fetchrow(_STATE) == before
        accepted = await accept_with_room(writer, drafts[:ROOM], limits)
        assert accepted is not None
        assert [each.fresh for each in accepted] == [True] * ROOM
    else:
        for each in drafts[:ROOM]:
            assert await accept_with_room(writer, [each], limits)
    full = await pool.fetchrow(_STATE)
    assert await accept_with_room(writer, drafts[ROOM:], limits) is None
    assert await pool.fetchrow(_STATE) == full


async def test_a_callers_own_full_inbox_is_not_in_its_way(
    writer: Writer, agents: list[UUID]
) -> None:
    full, other, callee, *_ = agents
    limits = NO_LIMITS._replace(max_items=1)
    assert await accept_with_room(writer, [draft(other, full)], limits)
    assert await accept_with_room(writer, [draft(full, callee)], limits)
    assert await accept_with_room(writer, [draft(callee, full)], limits) is None


async def test_other_days_and_other_organizations_leave_room(
    writer: Writer, pool: Pool, agents: list[UUID]
) -> None:
    caller, callee, *_ = agents
    size = await bytes_of_one(writer, pool, caller, callee)
    limits = NO_LIMITS._replace(day_bytes=size)
    assert await accept_with_room(writer, [draft(caller, callee)], limits) is None
    await pool.execute("UPDATE organization_usage SET day = day - 1")
    assert await accept_with_room(writer, [draft(caller, callee)], limits)


async def test_a_repeat_is_told_from_a_new_draft(writer: Writer, agents: list[UUID]) -> None:
    caller, callee, *_ = agents
    known = draft(caller, callee)
    assert await accept_with_room(writer, [known], NO_LIMITS)
    accepted = await accept_with_room(writer, [draft(caller, callee), known], NO_LIMITS)
    assert accepted is not None
    assert [(each.fresh, each.placed is not None) for each in accepted] == [
        (True, True),
        (False, False),
    ]
