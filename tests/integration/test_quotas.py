"""Quotas of delegations and records: they hold within a batch, and counters equal the rows."""

from __future__ import annotations

import asyncio
import random
from uuid import UUID

import pytest

from molecule_grpc.db.pool import Pool
from molecule_grpc.delegation.inbox.retention import purge
from molecule_grpc.delegation.ledger.retention import LedgerRetention
from molecule_grpc.delegation.record.store import usage
from molecule_grpc.delegation.record.store.entries import Entry
from molecule_grpc.kernel.errors import Exhausted, MoleculeError
from molecule_grpc.kernel.ids import new_id
from tests.integration.agents import ORGANIZATION, Slice, hire, message, slice_of

ROOM = 3
_COUNTED = """
    SELECT w.id, count(d.delegation_id) FROM workspaces w
    LEFT JOIN delegations d ON d.caller_id = w.id
        AND d.status IN ('queued', 'dispatched', 'in_progress')
    GROUP BY w.id HAVING count(d.delegation_id) > 0
"""
_KEPT = "SELECT workspace_id, open_delegations FROM inbox_heads WHERE open_delegations <> 0"


def note(workspace_id: UUID, text: str) -> Entry:
    """A row of a record that is no message."""
    return Entry(workspace_id, new_id(), "agent_log", summary=text)


async def settled(answers: list[str | BaseException]) -> tuple[list[str], list[Exhausted]]:
    """What was accepted, and what was refused for want of room."""
    made = [each for each in answers if isinstance(each, str)]
    refused = [each for each in answers if isinstance(each, Exhausted)]
    assert len(made) + len(refused) == len(answers), answers
    return made, refused


async def require_true_counts(pool: Pool) -> int:
    """Raise unless heads and organisations say how many delegations are under way; how many."""
    counted = dict(map(tuple, await pool.fetch(_COUNTED)))
    assert dict(map(tuple, await pool.fetch(_KEPT))) == counted
    in_all = (await usage.of_organization(pool, ORGANIZATION)).open
    assert in_all == sum(counted.values())
    return in_all


async def test_a_batch_refuses_only_the_drafts_without_room(database_url: str, pool: Pool) -> None:
    """Of one workspace, while another's of the same moment pass; an end makes room."""
    async with slice_of(database_url, pool, quotas_open_delegations_workspace=ROOM) as slice_:
        busy, neighbour, callee = await hire(pool, 3)
        first = await slice_.delegate(busy, callee, "first", key="first")
        answers = await asyncio.gather(
            *(slice_.delegate(busy, callee, f"task {n}") for n in range(8)),
            *(slice_.delegate(neighbour, callee, f"task {n}") for n in range(ROOM)),
            return_exceptions=True,
        )
        made, refused = await settled(answers[:8])
        assert len(made) == ROOM - 1
        assert not [each for each in answers[8:] if not isinstance(each, str)]
        assert {(each.reason, each.retry_after) for each in refused} == {("QUOTA_EXCEEDED", 30)}
        assert {each.quota for each in refused} == {
            (f"workspace:{busy}", "open delegations: 3 for each workspace")
        }
        # A repeat needs no room.
        assert await slice_.delegate(busy, callee, "first", key="first") == first
        with pytest.raises(Exhausted):
            await slice_.record(busy, callee, "by itself")
        await slice_.update(callee, first, "completed", "done")
        await slice_.record(busy, callee, "by itself")
        await slice_.record(busy, callee, "by itself")
        assert await require_true_counts(pool) == 2 * ROOM


async def test_an_organization_has_so_many_delegations_under_way(
    database_url: str, pool: Pool
) -> None:
    async with slice_of(database_url, pool, quotas_open_delegations_organization=ROOM) as slice_:
        one, two, callee = await hire(pool, 3)
        made, refused = await settled(
            await asyncio.gather(
                *(slice_.delegate(caller, callee) for caller in (one, two) for _ in range(4)),
                return_exceptions=True,
            )
        )
        assert len(made) == ROOM
        assert {each.quota for each in refused} == {
            (f"organization:{ORGANIZATION}", "open delegations: 3 for each organization")
        }
        await slice_.update(callee, made[0], "failed", error="broken")
        await slice_.delegate(one, callee)


async def test_an_organization_records_so_many_bytes_a_day(database_url: str, pool: Pool) -> None:
    """Only the rows beyond are refused; a result of what was accepted comes, however much it is."""
    async with slice_of(database_url, pool, quotas_record_bytes=20_000) as slice_:
        caller, callee = await hire(pool, 2)
        name = await slice_.delegate(caller, callee)
        answers = await asyncio.gather(
            *(slice_.records.append(note(caller, "x" * 2_000)) for _ in range(20)),
            return_exceptions=True,
        )
        refused = [each for each in answers if isinstance(each, Exhausted)]
        assert 0 < len(answers) - len(refused) < 10
        assert {each.reason for each in refused} == {"QUOTA_EXCEEDED"}
        assert all(0 < (each.retry_after or 0) <= 86_400 for each in refused)
        assert refused[0].quota is not None
        assert refused[0].quota[0] == f"organization:{ORGANIZATION}"
        used = (await usage.of_organization(pool, ORGANIZATION)).bytes
        assert 17_000 < used <= 20_000
        with pytest.raises(Exhausted):
            await slice_.records.append(message(callee, request_body='"' + "x" * 3_000 + '"'))
        assert (await slice_.update(callee, name, "completed", "x" * 3_000)).applied
        assert len(await slice_.items(caller, "delegate_result")) == 1
        with pytest.raises(Exhausted) as full:
            await slice_.delegate(caller, callee, "x" * 3_000)
        assert full.value.reason == "QUOTA_EXCEEDED"
        await pool.execute("UPDATE organization_usage SET day = day - 1")
        await slice_.records.append(note(caller, "x" * 2_000))
        assert (await usage.of_organization(pool, ORGANIZATION)).bytes == 2_256


async def test_a_full_inbox_says_whose_quota_is_used_up(database_url: str, pool: Pool) -> None:
    async with slice_of(database_url, pool, inbox_max_items=2) as slice_:
        caller, callee = await hire(pool, 2)
        await slice_.delegate(caller, callee)
        await slice_.delegate(caller, callee)
        with pytest.raises(Exhausted) as full:
            await slice_.delegate(caller, callee)
        assert (full.value.reason, full.value.retry_after) == ("INBOX_FULL", 30)
        assert full.value.quota == (
            f"workspace:{callee}",
            "undone items of an inbox: 2 for each workspace",
        )


async def test_without_a_limit_nothing_is_refused(database_url: str, pool: Pool) -> None:
    none = dict.fromkeys(
        (
            "quotas_open_delegations_workspace",
            "quotas_open_delegations_organization",
            "quotas_record_bytes",
            "inbox_max_items",
            "inbox_max_bytes",
        ),
        0,
    )
    async with slice_of(database_url, pool, **none) as slice_:
        caller, callee = await hire(pool, 2)
        await asyncio.gather(*(slice_.delegate(caller, callee) for _ in range(20)))
        await slice_.records.append(message(callee))


async def test_what_is_kept_of_delegations_is_what_is_there(database_url: str, pool: Pool) -> None:
    """Through ends, retries, cancels and races of two workers, recounts beside them, a purge."""
    chance = random.Random(4)

    async def work(slice_: Slice, callers: list[UUID], callee: UUID) -> None:
        caller = chance.choice(callers)
        name = await slice_.delegate(caller, callee, max_attempts=chance.choice((1, 2)))
        for _ in range(3):
            try:
                match chance.randrange(4):
                    case 0:
                        await slice_.update(callee, name, "completed", "done")
                    case 1:
                        await slice_.update(callee, name, "failed", error="broken")
                    case 2:
                        await slice_.ledger.moves.cancel(caller, name, reason="")
                    case _:
                        await slice_.beat(callee, name)
            except MoleculeError:
                pass

    async with slice_of(database_url, pool) as one, slice_of(database_url, pool) as two:
        *callers, callee = await hire(pool, 5)
        retention = LedgerRetention(pool, days=90)
        await asyncio.gather(
            *(work(chance.choice((one, two)), callers, callee) for _ in range(120)),
            *(retention.recount() for _ in range(3)),
        )
        await asyncio.gather(*(one.delegate(callers[0], callee) for _ in range(3)))
        before = await require_true_counts(pool)
        gone = await pool.fetchval(
            "SELECT open_delegations FROM inbox_heads WHERE workspace_id = $1", callers[0]
        )
        last = await one.delegate(callers[0], callee)
        async with pool.acquire() as conn, conn.transaction():
            await purge(conn, callers[:1])
            await conn.execute("DELETE FROM workspaces WHERE id = $1", callers[0])
        assert await require_true_counts(pool) == before - gone
        # The delegation ends after its caller was purged.
        await one.update(callee, last, "completed", "late")
        assert await require_true_counts(pool) == before - gone


async def test_a_recount_repairs_what_another_version_left_out(
    database_url: str, pool: Pool
) -> None:
    async with slice_of(database_url, pool) as slice_:
        caller, other, callee = await hire(pool, 3)
        kept = await slice_.delegate(caller, callee)
        left_out = await slice_.delegate(other, callee)
        await pool.execute(
            "UPDATE delegations SET status = 'failed' WHERE delegation_id = $1", left_out
        )
        await pool.execute(
            "UPDATE inbox_heads SET open_delegations = 7 WHERE workspace_id = $1", caller
        )
        retention = LedgerRetention(pool, days=90)
        await asyncio.gather(*(retention.recount() for _ in range(3)))
        await retention.recount()
        assert await require_true_counts(pool) == 1
        await slice_.update(callee, kept, "completed")
        assert await require_true_counts(pool) == 0
