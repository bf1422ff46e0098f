"""What may go and what must stay, on a real database."""

from __future__ import annotations

import asyncio
from uuid import UUID

from molecule_grpc.auth.retention import prune_revoked
from molecule_grpc.db.pool import Pool
from molecule_grpc.delegation.inbox.retention import InboxRetention
from molecule_grpc.delegation.inbox.store.acks import Ack
from molecule_grpc.delegation.ledger.retention import LedgerRetention
from molecule_grpc.delegation.ledger.undelivered import Undelivered
from molecule_grpc.delegation.record.retention import RecordRetention
from molecule_grpc.events import store as event_store
from molecule_grpc.events.names import EventType
from molecule_grpc.events.store import Event
from tests.integration.agents import ORGANIZATION, Slice, hire, message, slice_of


async def fill(one: Slice, workspace_id: UUID, count: int) -> None:
    """So many messages for an inbox."""
    for n in range(count):
        await one.records.append(message(workspace_id, f"message {n + 1}"))


async def older(pool: Pool, workspace_id: UUID, up_to: int, days: int) -> None:
    """Make items up to this number, and their rows, so many days older."""
    await pool.execute(
        """WITH moved AS (
               UPDATE inbox_items SET created_at = created_at - make_interval(days => $3)
               WHERE workspace_id = $1 AND seq <= $2 RETURNING activity_id)
           UPDATE activity_logs SET created_at = created_at - make_interval(days => $3)
           WHERE id IN (SELECT activity_id FROM moved)""",
        workspace_id,
        up_to,
        days,
    )


async def left(pool: Pool, workspace_id: UUID) -> list[int]:
    """Numbers of the items that an inbox still holds."""
    rows = await pool.fetch(
        "SELECT seq FROM inbox_items WHERE workspace_id = $1 ORDER BY seq", workspace_id
    )
    return [row["seq"] for row in rows]


async def sweep(one: Slice) -> None:
    """A pass over inboxes, then records, with the default of seven days."""
    undelivered = Undelivered(one.ledger.moves, unread_days=30)
    await InboxRetention(one.pool, undelivered.expired, done_days=7, unread_days=30).sweep()
    await RecordRetention(one.pool, days=7).sweep()


async def test_done_items_leave_after_a_week(database_url: str, pool: Pool) -> None:
    """And a cursor before them is told that they were pruned."""
    async with slice_of(database_url, pool) as one:
        [agent] = await hire(pool, 1)
        await fill(one, agent, 5)
        await one.reads.ack(Ack(agent, 4, (), None))
        await older(pool, agent, 3, days=8)
        await sweep(one)
        assert await left(pool, agent) == [4, 5]
        head = await pool.fetchrow("SELECT * FROM inbox_heads WHERE workspace_id = $1", agent)
        assert head is not None
        assert (head["oldest_seq"], head["acked_seq"], head["last_seq"]) == (4, 4, 5)


async def test_what_is_unread_stays_with_its_row(database_url: str, pool: Pool) -> None:
    """A laptop that was off for eight days loses no mail."""
    async with slice_of(database_url, pool) as one:
        [agent] = await hire(pool, 1)
        await fill(one, agent, 3)
        await older(pool, agent, 3, days=8)
        await sweep(one)
        assert await left(pool, agent) == [1, 2, 3]
        assert len(await one.record_of(agent)) == 3


async def test_after_thirty_days_unread_work_fails(database_url: str, pool: Pool) -> None:
    """The item leaves the inbox, and the caller is told that nobody read the task."""
    async with slice_of(database_url, pool) as one:
        caller, callee = await hire(pool, 2)
        name = await one.delegate(caller, callee)
        await older(pool, callee, 1, days=31)
        await sweep(one)
        assert await left(pool, callee) == []
        row = await one.row(name)
        assert (row["status"], row["failure_reason"]) == ("failed", "exhausted")
        assert len(await one.items(caller, "delegate_result")) == 1


async def test_an_unread_item_in_front_keeps_what_is_behind_it(
    database_url: str, pool: Pool
) -> None:
    """Only a prefix leaves, so that the oldest number tells the truth."""
    async with slice_of(database_url, pool) as one:
        [agent] = await hire(pool, 1)
        await fill(one, agent, 3)
        await one.reads.ack(Ack(agent, 0, (2, 3), None))
        await older(pool, agent, 3, days=8)
        await sweep(one)
        assert await left(pool, agent) == [1, 2, 3]


async def test_old_rows_of_the_record_leave(database_url: str, pool: Pool) -> None:
    """The ledger keeps its own history."""
    async with slice_of(database_url, pool) as one:
        caller, callee = await hire(pool, 2)
        name = await one.delegate(caller, callee)
        await one.update(callee, name, "completed", "done")
        for agent in (caller, callee):
            await one.reads.ack(Ack(agent, 1, (), None))
        await pool.execute("UPDATE activity_logs SET created_at = now() - interval '8 days'")
        await sweep(one)
        assert await one.record_of(caller) == await one.record_of(callee) == []
        assert (await one.row(name))["result"] == "done"


async def test_events_leave_when_nobody_can_resume_after_them(pool: Pool) -> None:
    """Kept ones after thirty days."""
    kinds = (EventType.WORKSPACE_MOVED, EventType.WORKSPACE_DEGRADED)
    async with pool.acquire() as conn:
        await event_store.keep(conn, [Event.of(kind, ORGANIZATION, None) for kind in kinds])
    await pool.execute(
        """UPDATE structure_events SET created_at = now() - interval '31 days'
           WHERE event_type = 'WORKSPACE_MOVED'"""
    )
    await event_store.prune(pool, live_minutes=10, kept_days=30)
    rows = await pool.fetch("SELECT event_type FROM structure_events")
    assert [row["event_type"] for row in rows] == ["WORKSPACE_DEGRADED"]


# The ledger.


async def ended(one: Slice, caller: UUID, callee: UUID, status: str) -> str:
    """A delegation that ended so."""
    name = await one.delegate(caller, callee)
    await one.update(callee, name, status, "done", error="broken" if status == "failed" else "")
    return name


async def test_ended_delegations_leave_after_their_time(database_url: str, pool: Pool) -> None:
    """Counted from the end: however old, what is under way stays, and the counts stay true."""
    async with slice_of(database_url, pool) as one:
        caller, callee = await hire(pool, 2)
        await ended(one, caller, callee, "completed")
        await ended(one, caller, callee, "failed")
        young = await ended(one, caller, callee, "completed")
        live = await one.delegate(caller, callee)
        await pool.execute(
            """UPDATE delegations SET created_at = now() - interval '400 days',
                      updated_at = now() - CASE delegation_id WHEN $1 THEN interval '89 days'
                                                              ELSE interval '91 days' END""",
            young,
        )
        assert await one.ledger.views.count_by_status(None) == {
            "completed": 2,
            "failed": 1,
            "queued": 1,
        }
        retention = LedgerRetention(pool, days=90)
        assert sum(await asyncio.gather(*(retention.sweep() for _ in range(3)))) == 2
        rows = await pool.fetch("SELECT delegation_id FROM delegations")
        assert {row["delegation_id"] for row in rows} == {young, live}
        for organization_id in (None, ORGANIZATION):
            counts = await one.ledger.views.count_by_status(organization_id)
            assert counts == {"completed": 1, "queued": 1}


async def test_counts_stay_true_while_they_are_folded_and_recounted(
    database_url: str, pool: Pool
) -> None:
    """A recount repairs what a writer left out that does not know the tallies, once."""
    async with slice_of(database_url, pool) as one:
        caller, callee = await hire(pool, 2)
        retention = LedgerRetention(pool, days=90)
        for _ in range(5):
            await asyncio.gather(
                ended(one, caller, callee, "completed"), retention.fold(), retention.recount()
            )
        await retention.fold()
        assert await pool.fetchval("SELECT count(*) FROM delegation_tallies") == 1
        left_out = await one.delegate(caller, callee)
        await pool.execute(
            "UPDATE delegations SET status = 'failed' WHERE delegation_id = $1", left_out
        )
        await asyncio.gather(*(retention.recount() for _ in range(3)))
        counts = await one.ledger.views.count_by_status(ORGANIZATION)
        assert counts == {"completed": 5, "failed": 1}


async def test_a_retry_is_no_second_end(database_url: str, pool: Pool) -> None:
    """A failed attempt ends nothing; a repeated report ends nothing twice."""
    async with slice_of(database_url, pool) as one:
        caller, callee = await hire(pool, 2)
        name = await one.delegate(caller, callee, max_attempts=2, retry_backoff_seconds=1)
        await one.update(callee, name, "failed", error="broken")
        assert await one.ledger.views.count_by_status(None) == {"queued": 1}
        other = await ended(one, caller, callee, "completed")
        await one.update(callee, other, "completed", "done")
        assert await one.ledger.views.count_by_status(None) == {"queued": 1, "completed": 1}


async def test_a_long_inbox_leaves_in_batches(database_url: str, pool: Pool) -> None:
    """More done items than one statement deletes, and the mark ends up behind all of them."""
    async with slice_of(database_url, pool) as one:
        [agent] = await hire(pool, 1)
        await fill(one, agent, 1)
        await pool.execute(
            """
            INSERT INTO inbox_items (workspace_id, seq, message_id, activity_id, method, bytes,
                                     bytes_through, done_at, created_at)
            SELECT $1, n, n::text, gen_random_uuid(), 'message/send', 1, n, now(),
                   now() - interval '8 days' FROM generate_series(2, 12000) n
            """,
            agent,
        )
        await pool.execute(
            "UPDATE inbox_heads SET last_seq = 12000, bytes = 12000 WHERE workspace_id = $1", agent
        )
        await one.reads.ack(Ack(agent, 12_000, (), None))
        await older(pool, agent, 1, days=8)
        await asyncio.gather(sweep(one), sweep(one))
        await sweep(one)
        assert await left(pool, agent) == []
        head = await pool.fetchrow("SELECT * FROM inbox_heads WHERE workspace_id = $1", agent)
        assert head is not None
        assert (head["oldest_seq"], head["acked_seq"], head["last_seq"]) == (12_001, 12_000, 12_000)


async def test_revoked_tokens_leave_after_their_time(pool: Pool) -> None:
    [agent] = await hire(pool, 1)
    await pool.execute(
        """INSERT INTO workspace_auth_tokens (id, workspace_id, token_hash, prefix, revoked_at)
           SELECT gen_random_uuid(), $1, uuid_send(gen_random_uuid()), coalesce(age, 'live'),
                  now() - age::interval
           FROM unnest(ARRAY['91 days', '89 days', NULL]) AS t (age)""",
        agent,
    )
    await prune_revoked(pool, days=90)
    rows = await pool.fetch("SELECT prefix FROM workspace_auth_tokens ORDER BY prefix")
    assert [row["prefix"] for row in rows] == ["89 days", "live"]
