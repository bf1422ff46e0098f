"""Approvals on a real database: decided once, denied in time, told once."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest

from molecule_grpc.approvals.approvals import Approvals
from molecule_grpc.approvals.upkeep import Upkeep
from molecule_grpc.approvals.values import Asked, Status
from molecule_grpc.db.pool import Pool
from molecule_grpc.kernel.errors import Exhausted, Invalid, NotFound
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.kernel.page_tokens import PageTokens
from tests.integration.agents import ORGANIZATION, Slice, hire, slice_of

ASKED = Asked("publish", "because", "t-1", '{"a":[1,null]}')


def nothing() -> None:
    """Nobody waits."""


def approvals_of(slice_: Slice) -> Approvals:
    return Approvals(
        slice_.pool,
        PageTokens(bytes(32)),
        slice_.core.quotas.pending_approvals,
        default_seconds=600,
        decided=nothing,
    )


def upkeep_of(slice_: Slice) -> Upkeep:
    return Upkeep(slice_.pool, slice_.outbound.messages.leave, retention_days=90)


async def told(slice_: Slice, workspace_id: UUID) -> list[str]:
    """The texts in an agent's inbox."""
    found = await slice_.items(workspace_id)
    return [str(row["request_body"]) for row in found]


async def events(pool: Pool, kind: str) -> int:
    count: int = await pool.fetchval(
        "SELECT count(*) FROM structure_events WHERE event_type = $1", kind
    )
    return count


async def test_of_many_decisions_one_counts_and_is_told_once(
    pool: Pool, slice_: Slice, me: UUID
) -> None:
    """Ten people decide at once, three workers tell at once."""
    approvals = approvals_of(slice_)
    approval_id, _ = await approvals.ask(me, ASKED)
    statuses = [Status.APPROVED, Status.DENIED] * 5
    done = await asyncio.gather(
        *(approvals.decide(me, approval_id, ORGANIZATION, each, "p") for each in statuses),
        return_exceptions=True,
    )
    [row] = (await approvals.of_workspace(me, limit=0, page_token="")).rows
    wrong = [one for one, each in zip(done, statuses, strict=True) if each is not row.status]
    assert all(isinstance(one, NotFound) and one.reason == "APPROVAL_NOT_PENDING" for one in wrong)
    assert [one for one in done if one is None] == [None] * 5
    for _ in range(2):
        await asyncio.gather(*(upkeep_of(slice_).tell() for _ in range(3)))
    [text] = await told(slice_, me)
    assert f"Approval {row.status} (by p): publish" in text
    assert await events(pool, "APPROVAL_DECIDED") == 1


async def test_a_decision_that_was_told_and_not_noted_is_told_once(
    pool: Pool, slice_: Slice, me: UUID
) -> None:
    """A worker that dies after telling is followed by one that tells the same message."""
    approvals = approvals_of(slice_)
    approval_id, _ = await approvals.ask(me, ASKED)
    await approvals.decide(me, approval_id, None, Status.DENIED, "p")
    await upkeep_of(slice_).tell()
    await pool.execute("UPDATE approval_requests SET tell_at = now()")
    await upkeep_of(slice_).tell()
    assert len(await told(slice_, me)) == 1


async def test_what_nobody_decides_in_time_is_denied(pool: Pool, slice_: Slice, me: UUID) -> None:
    """From that second on, also before a sweep; by all workers at once, once."""
    approvals = approvals_of(slice_)
    approval_id, _ = await approvals.ask(me, ASKED)
    other, _ = await approvals.ask(me, ASKED)
    await pool.execute("UPDATE approval_requests SET expires_at = now() WHERE id = $1", approval_id)
    with pytest.raises(NotFound):
        await approvals.decide(me, approval_id, None, Status.APPROVED, "late")
    pending = await approvals.pending(ORGANIZATION, limit=0, page_token="")
    assert [row.id for row in pending.rows] == [other]
    await asyncio.gather(*(upkeep_of(slice_).expire() for _ in range(3)))
    rows = (await approvals.of_workspace(me, limit=0, page_token="")).rows
    assert [(row.status, row.decided_by) for row in rows] == [
        (Status.PENDING, ""),
        (Status.DENIED, "timeout"),
    ]
    await upkeep_of(slice_).tell()
    assert "nobody decided in time" in (await told(slice_, me))[0]
    assert await events(pool, "APPROVAL_DECIDED") == 1


async def test_a_full_inbox_is_told_later(database_url: str, pool: Pool, me: UUID) -> None:
    """Decisions are told after the agent has read its inbox."""
    async with slice_of(database_url, pool, inbox_max_items=1) as small:
        for _ in range(2):
            approval_id, _ = await approvals_of(small).ask(me, ASKED)
            await approvals_of(small).decide(me, approval_id, None, Status.APPROVED, "p")
        await upkeep_of(small).tell()
        waiting = await pool.fetch("SELECT tell_at > now() AS later FROM approval_requests")
        assert sorted(str(row["later"]) for row in waiting) == ["None", "True"]
        assert len(await told(small, me)) == 1
        await pool.execute("UPDATE inbox_items SET done_at = now(), outcome = 'done'")
        await pool.execute("UPDATE inbox_heads SET acked_seq = last_seq, acked_bytes = bytes")
        await pool.execute("UPDATE approval_requests SET tell_at = now() WHERE tell_at > now()")
        await upkeep_of(small).tell()
        assert len(await told(small, me)) == 2


async def test_a_request_is_told_to_the_parent(pool: Pool, slice_: Slice, me: UUID) -> None:
    (child,) = await hire(pool, 1, parent_id=me)
    await approvals_of(slice_).ask(child, ASKED)
    rows = await pool.fetch(
        "SELECT event_type, workspace_id FROM structure_events"
        " WHERE event_type LIKE 'APPROVAL%' ORDER BY event_type"
    )
    assert [tuple(row) for row in rows] == [
        ("APPROVAL_ESCALATED", me),
        ("APPROVAL_REQUESTED", child),
    ]


async def test_numbers_and_sizes_are_bounded(pool: Pool, slice_: Slice, me: UUID) -> None:
    approvals = approvals_of(slice_)
    for _ in range(100):
        await approvals.ask(me, ASKED)
    with pytest.raises(Exhausted):
        await approvals.ask(me, ASKED)
    for asked in (Asked(" "), Asked("a", context='"' + "x" * 16_384 + '"')):
        with pytest.raises(Invalid):
            await approvals.ask(me, asked)
    with pytest.raises(NotFound):
        await approvals.ask(new_id(), ASKED)


async def test_old_requests_go(pool: Pool, slice_: Slice, me: UUID) -> None:
    """90 days after the decision, and beyond a thousand of a workspace; pending ones stay."""
    await approvals_of(slice_).ask(me, ASKED)
    await pool.execute(
        """
        INSERT INTO approval_requests (id, organization_id, workspace_id, action, status,
                                       decided_by, decided_at, expires_at, created_at)
        SELECT gen_random_uuid(), $1, $2, 'a', 'denied', 'p', now() - n * interval '1 hour', now(),
               now() - n * interval '1 hour'
        FROM generate_series(0, 2299) n
        """,
        ORGANIZATION,
        me,
    )
    await pool.execute(
        "UPDATE approval_requests SET created_at = '2020-01-01' WHERE status = 'pending'"
    )
    sweep = upkeep_of(slice_).sweep
    await asyncio.gather(sweep(), sweep())
    kept = await pool.fetch("SELECT status, count(*) FROM approval_requests GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in kept] == [("denied", 1000), ("pending", 1)]
