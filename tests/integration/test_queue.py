"""The queue for agents with a URL: nothing lost, nothing twice, nothing too much, in order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from molecule_grpc.db.embedded.server import EmbeddedPostgres
from molecule_grpc.db.migrate import migrate
from molecule_grpc.db.pool import Pool, connect, connect_pool
from molecule_grpc.delegation.outbound.store import leases, upkeep
from molecule_grpc.delegation.outbound.store import queue as store
from molecule_grpc.delegation.record.store import usage
from molecule_grpc.events.names import EventType
from molecule_grpc.kernel.errors import Exhausted, Unavailable
from molecule_grpc.kernel.ids import new_id
from tests import fake_agent as agents
from tests.conftest import MIGRATIONS
from tests.fake_agent import FakeAgent, fake_agent
from tests.integration.agents import ORGANIZATION, call_of, hire, someone_waits
from tests.integration.pushers import Worker, listening, worker_on
from tests.waiting import PATIENCE, until

T = TypeVar("T")


@pytest.fixture
async def worker(database_url: str, pool: Pool) -> AsyncIterator[Worker]:
    async with worker_on(database_url, pool) as opened:
        yield opened


@pytest.fixture
async def agent() -> AsyncIterator[FakeAgent]:
    async with fake_agent() as opened:
        yield opened


@pytest.fixture
async def caller(pool: Pool) -> UUID:
    [workspace_id] = await hire(pool, 1)
    return workspace_id


async def fill(pool: Pool, target: UUID, *texts: str, priority: int = 50) -> list[UUID]:
    """Messages that wait for a workspace, in this order."""
    ids = []
    for text in texts:
        message = store.QueueMessage(
            id=new_id(),
            workspace_id=target,
            caller_id=None,
            priority=priority,
            body=json.dumps(
                {"params": {"message": {"messageId": text, "parts": [{"text": text}]}}}
            ),
            method="message/send",
            message_id=text,
            expiry=timedelta(hours=1),
        )
        async with pool.acquire() as conn, conn.transaction():
            found = await store.insert(conn, message, limit=1000)
        assert found is not None
        ids.append(found)
    return ids


async def claim(pool: Pool, target: UUID, owner: str = "other", lease: float = 60.0) -> list[str]:
    """Claim messages as a worker that dies at once; the message ids."""
    async with pool.acquire() as conn, conn.transaction():
        claimed = await leases.claim(conn, [target], limit=8, owner=owner, lease_seconds=lease)
    return [row.message_id or "" for row in claimed.rows]


FIRST = asyncio.FIRST_COMPLETED


def redelivered() -> float:
    return REGISTRY.get_sample_value("molecule_a2a_queue_redelivered_total") or 0.0


# A busy agent.


async def test_a_message_for_a_busy_agent_waits_and_arrives(
    worker: Worker, agent: FakeAgent, caller: UUID
) -> None:
    """I-PX-1: it is on disk before the sender is told so."""
    target = await listening(worker.pool, agent)
    agent.script = [agents.hangs_up]
    answer, call = await worker.post(caller, target, "hello", message_id="m1")
    said = json.loads(answer.data)
    assert said.keys() == {"queued", "queue_id", "queue_depth", "message"}
    assert (said["queued"], said["queue_depth"], call.headers["x-http-code"]) == (True, 1, "202")
    row = await worker.queued(UUID(said["queue_id"]))
    assert (row["status"], row["idempotency_key"], row["attempts"]) == ("queued", "m1", 0)
    worker.deliver()
    row = await worker.until(row["id"], "completed")
    assert agent.message_ids == ["m1", "m1"]
    assert json.loads(row["response_body"])["result"]["parts"][0]["text"] == "echo: hello"


async def test_draining_into_a_busy_agent_leaves_the_message_queued(
    worker: Worker, agent: FakeAgent
) -> None:
    """I-Q-1: the message is not lost, and not copied."""
    target = await listening(worker.pool, agent)
    [row_id] = await fill(worker.pool, target, "m1")
    agent.script = [agents.hangs_up, agents.resets, agents.hangs_up]
    worker.due_workspaces.add(target)
    worker.deliver()
    await agent.wait(4)
    row = await worker.until(row_id, "completed")
    assert agent.message_ids == ["m1"] * 4
    assert row["attempts"] == 0
    assert len(await worker.queue_of(target)) == 1


async def test_the_network_uses_up_no_attempts_answers_do(worker: Worker, agent: FakeAgent) -> None:
    """I-Q-5: five bad answers, and any number of broken connections."""
    target = await listening(worker.pool, agent)
    [row_id] = await fill(worker.pool, target, "m1")
    bad = agents.answers(500, {"error": "not today"})
    agent.script = [agents.hangs_up, bad, agents.hangs_up, bad, agents.resets, bad, bad]
    agent.behave = bad
    worker.due_workspaces.add(target)
    worker.deliver()
    row = await worker.until(row_id, "failed")
    assert (row["attempts"], row["last_error"], len(agent.received)) == (5, "not today", 8)


async def test_a_refused_message_fails_at_once(worker: Worker, agent: FakeAgent) -> None:
    target = await listening(worker.pool, agent)
    [row_id] = await fill(worker.pool, target, "m1")
    agent.behave = agents.answers(404, {"error": "who?"})
    worker.due_workspaces.add(target)
    worker.deliver()
    row = await worker.until(row_id, "failed")
    assert (row["attempts"], row["last_error"], len(agent.received)) == (1, "who?", 1)


async def test_an_agent_that_warms_up_costs_no_attempt(
    database_url: str, pool: Pool, agent: FakeAgent
) -> None:
    """For as long as the settle window; then its answers count."""
    async with worker_on(database_url, pool, outbound_settle=60.0) as worker:
        target = await listening(pool, agent)
        [row_id] = await fill(pool, target, "m1")
        agent.script = [agents.answers(503, {"restarting": True})] * 3
        worker.due_workspaces.add(target)
        worker.deliver()
        row = await worker.until(row_id, "completed")
        assert (row["attempts"], len(agent.received)) == (0, 4)
        agent.behave = agents.answers(503, {"warming": True})
        [late] = await fill(pool, target, "m2")
        worker.due_workspaces.add(target)
        async with asyncio.timeout(PATIENCE):
            while not await _first_told_to_wait_an_hour_ago(pool, late):
                await asyncio.sleep(0.01)
        row = await worker.until(late, "failed")
        assert row["attempts"] == 5
        assert len(agent.received) > 4 + 5


async def _first_told_to_wait_an_hour_ago(pool: Pool, row_id: UUID) -> bool:
    """Move the settle window of a message into the past; False before it has begun."""
    status = await pool.execute(
        """
        UPDATE a2a_queue SET settling_since = now() - interval '1 hour'
        WHERE id = $1 AND settling_since IS NOT NULL
        """,
        row_id,
    )
    return status == "UPDATE 1"


async def test_answers_go_into_the_record_once_and_never_into_the_inbox(
    worker: Worker, agent: FakeAgent, caller: UUID
) -> None:
    """Spec 2.4: an `a2a_receive` row with the answer, at once or out of the queue."""
    target = await listening(worker.pool, agent)
    await worker.post(caller, target, "direct")
    agent.script = [agents.hangs_up]
    row_id = await worker.busy(caller, target, "later")
    worker.deliver()
    await worker.until(row_id, "completed")
    rows = await worker.record_of(target)
    assert [(r["activity_type"], r["method"], r["source_id"], r["status"]) for r in rows] == [
        ("a2a_receive", "message/send", caller, "ok")
    ] * 2
    assert [r["summary"] for r in rows] == ["direct", "later"]
    assert all("echo" in r["response_body"] for r in rows)
    assert [r["inbox_seq"] for r in rows] == [None, None]
    assert await worker.items(target) == []
    spoken = await worker.pool.fetchval(
        "SELECT last_outbound_at FROM workspaces WHERE id = $1", caller
    )
    assert spoken is not None


async def test_every_byte_of_the_record_counts_for_its_organization(
    worker: Worker, agent: FakeAgent, caller: UUID
) -> None:
    """Answers of agents, too, at once, out of the queue, and of delegations."""
    target = await listening(worker.pool, agent)
    await worker.post(caller, target, "direct")
    agent.script = [agents.hangs_up]
    row_id = await worker.busy(caller, target, "later")
    name = await worker.delegate(caller, target, "x" * 3_000)
    worker.deliver()
    await worker.until(row_id, "completed")

    # The answer is added to the task's row after the delegation has ended.
    async def answered() -> bool:
        return bool(
            await worker.pool.fetchval(
                """
                SELECT a.response_body IS NOT NULL FROM activity_logs a
                JOIN delegations d ON d.item_id = a.id WHERE d.delegation_id = $1
                """,
                name,
            )
        )

    assert await until(answered, bool)
    kept = await worker.pool.fetchval(
        """
        SELECT sum(256 + body_bytes + coalesce(octet_length(summary), 0)
                   + coalesce(octet_length(error_detail), 0)) FROM activity_logs
        """
    )
    assert (await usage.of_organization(worker.pool, ORGANIZATION)).bytes == kept


# Who holds a message.


async def test_what_a_dead_worker_held_is_sent_by_another(worker: Worker, agent: FakeAgent) -> None:
    """I-Q-2: after its lease, and the message's key is free again when it has ended."""
    target = await listening(worker.pool, agent)
    [row_id] = await fill(worker.pool, target, "m1")
    assert await claim(worker.pool, target, lease=-1.0) == ["m1"]
    before = redelivered()
    worker.deliver()
    await worker.outbound.deliveries.sweep()
    await worker.until(row_id, "completed")
    assert agent.message_ids == ["m1"]
    assert redelivered() == before + 1
    [again] = await fill(worker.pool, target, "m1")
    assert again != row_id


async def test_what_a_living_worker_holds_is_left_alone(worker: Worker, agent: FakeAgent) -> None:
    """I-Q-2: however many look."""
    target = await listening(worker.pool, agent)
    [row_id] = await fill(worker.pool, target, "m1")
    await claim(worker.pool, target)
    worker.deliver()
    await worker.outbound.deliveries.sweep()
    await worker.landed()
    assert (await worker.queued(row_id))["status"] == "dispatched"
    assert agent.received == []


async def test_a_lease_lasts_as_long_as_the_call(
    database_url: str, pool: Pool, agent: FakeAgent
) -> None:
    """I-Q-2: a slow agent gets its message once, though another worker looks all the time."""
    answer = asyncio.Event()
    agent.behave = agents.waits_for(answer, agents.says("done"))
    target = await listening(pool, agent, max_concurrent_tasks=5)
    [row_id] = await fill(pool, target, "m1")
    async with (
        worker_on(database_url, pool, outbound_lease=0.5) as one,
        worker_on(database_url, pool) as two,
    ):
        one.due_workspaces.add(target)
        one.deliver()
        await agent.wait(1)
        two.deliver()
        first = (await one.queued(row_id))["lease_until"]
        while (await one.queued(row_id))["lease_until"] < first + timedelta(seconds=1):
            await one.outbound.queue.renew()
            await two.outbound.deliveries.sweep()
        answer.set()
        await one.until(row_id, "completed")
    assert agent.message_ids == ["m1"]


async def test_a_worker_does_not_take_from_itself(worker: Worker, agent: FakeAgent) -> None:
    """I-Q-2: the database was away for longer than a lease, and the call still runs."""
    answer = asyncio.Event()
    agent.behave = agents.waits_for(answer, agents.says("done"))
    target = await listening(worker.pool, agent, max_concurrent_tasks=2)
    [row_id] = await fill(worker.pool, target, "m1")
    worker.due_workspaces.add(target)
    worker.deliver()
    await agent.wait(1)
    await worker.pool.execute("UPDATE a2a_queue SET lease_until = now() - interval '1 second'")
    await worker.outbound.deliveries.sweep()
    assert (await worker.queued(row_id))["status"] == "dispatched"
    answer.set()
    await worker.until(row_id, "completed")
    assert len(agent.received) == 1


async def test_a_late_answer_does_not_undo_what_another_worker_did(
    worker: Worker, agent: FakeAgent
) -> None:
    """Whoever lost its lease writes nothing."""
    answer = asyncio.Event()
    agent.script = [agents.waits_for(answer, agents.says("first"))]
    target = await listening(worker.pool, agent)
    [row_id] = await fill(worker.pool, target, "m1")
    worker.due_workspaces.add(target)
    worker.deliver()
    await agent.wait(1)
    await worker.pool.execute("UPDATE a2a_queue SET lease_owner = 'other'")
    answer.set()
    await worker.landed()
    row = await worker.queued(row_id)
    assert (row["status"], row["lease_owner"], row["response_body"]) == (
        "dispatched",
        "other",
        None,
    )
    assert await worker.record_of(target) == []


async def test_a_worker_that_ends_in_good_order_gives_back_what_it_held(
    database_url: str, pool: Pool, agent: FakeAgent
) -> None:
    agent.behave = agents.hangs
    target = await listening(pool, agent)
    [row_id] = await fill(pool, target, "m1")
    async with worker_on(database_url, pool) as worker:
        worker.outbound.sending._wait_limit = 0.0
        worker.due_workspaces.add(target)
        worker.deliver()
        await agent.wait(1)
    row = await worker.queued(row_id)
    assert (row["status"], row["lease_owner"]) == ("queued", None)


async def test_an_answer_outlives_an_outage_of_the_database(
    tmp_path_factory: pytest.TempPathFactory, agent: FakeAgent
) -> None:
    """I-PX-3: it waits in memory until it can be written down; the message is not sent again."""
    with EmbeddedPostgres(tmp_path_factory.mktemp("pg"), {"fsync": "off"}) as postgres:
        await migrate(postgres.dsn, MIGRATIONS)
        pool = await connect_pool(postgres.dsn, min_size=0, max_size=4)
        answer = asyncio.Event()
        agent.behave = agents.waits_for(answer, agents.says("done"))
        target = await listening(pool, agent)
        async with worker_on(postgres.dsn, pool) as worker:
            [caller] = await hire(pool, 1)
            worker.deliver()
            delegation_id = await worker.delegate(caller, target)
            await agent.wait(1)
            await asyncio.to_thread(postgres.stop)
            answer.set()
            done, _ = await asyncio.wait(worker.outbound.sending._tasks, timeout=1.0)
            assert not done
            await asyncio.to_thread(postgres.start)
            await worker.landed()
            row = await worker.row(delegation_id)
            [queued] = await worker.queue_of(target)
        await pool.close()
    assert (row["status"], row["result"], queued["status"]) == ("completed", "done", "completed")
    assert len(agent.received) == 1


# Fails the next three changes of a table as Postgres fails the victim of a deadlock.
_DEADLOCKS = """
    CREATE SEQUENCE tries;
    CREATE FUNCTION deadlock() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF nextval('tries') <= 3 THEN
            RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01';
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER deadlock BEFORE {change} ON {table} FOR EACH ROW
    EXECUTE FUNCTION deadlock()
"""


@pytest.mark.parametrize("table", ["delegations", "a2a_queue"])
async def test_an_answer_outlives_a_deadlock(
    worker: Worker, agent: FakeAgent, caller: UUID, table: str
) -> None:
    answer = asyncio.Event()
    agent.behave = agents.waits_for(answer, agents.says("done"))
    target = await listening(worker.pool, agent)
    worker.deliver()
    delegation_id = await worker.delegate(caller, target)
    await agent.wait(1)
    await worker.pool.execute(_DEADLOCKS.format(change="UPDATE", table=table))
    answer.set()
    await worker.landed()
    row, [queued] = await worker.row(delegation_id), await worker.queue_of(target)
    assert (row["status"], row["result"], queued["status"]) == ("completed", "done", "completed")
    assert "done" in queued["response_body"]
    assert len(agent.received) == 1


async def test_record_of_an_answer_outlives_a_deadlock(
    worker: Worker, agent: FakeAgent, caller: UUID
) -> None:
    """The sender has the answer at once, and the record gets it when the deadlocks are over."""
    target = await listening(worker.pool, agent)
    await worker.pool.execute(_DEADLOCKS.format(change="INSERT", table="activity_logs"))
    body, _ = await worker.post(caller, target, "x")
    assert b"echo: x" in body.data
    await worker.landed()
    [row] = await worker.record_of(target)
    assert "echo: x" in row["response_body"]


async def test_an_answer_outlives_a_full_queue_of_writes(
    database_url: str, worker: Worker, agent: FakeAgent, caller: UUID
) -> None:
    answer = asyncio.Event()
    agent.behave = agents.waits_for(answer, agents.says("done"))
    target = await listening(worker.pool, agent)
    worker.deliver()
    delegation_id, other = await worker.delegate(caller, target), str(new_id())
    await agent.wait(1)
    await worker.record(caller, target, other)
    moves = worker.ledger.writes._moves
    moves._max_queue = 1
    lock = await connect(database_url)
    with capture_logs() as logs:
        async with lock.transaction():
            # The first beat waits for the locked row, the second fills the queue of one.
            await lock.execute("SELECT FROM delegations WHERE delegation_id = $1 FOR UPDATE", other)
            first = asyncio.create_task(worker.beat(target, other))
            await someone_waits(worker.pool)
            second = asyncio.create_task(worker.beat(target, other))
            await until(_now(lambda: moves.waiting), lambda waiting: waiting == 1)
            answer.set()
            await until(
                _now(lambda: list(logs)), lambda seen: any("answer" in str(e) for e in seen)
            )
        await asyncio.gather(first, second)
        await worker.landed()
    await lock.close()
    row, [queued] = await worker.row(delegation_id), await worker.queue_of(target)
    assert (row["status"], row["result"], queued["status"]) == ("completed", "done", "completed")
    assert len(agent.received) == 1


def _now(look: Callable[[], T]) -> Callable[[], Awaitable[T]]:
    async def looked() -> T:
        return look()

    return looked


# Order and room.


async def test_order_is_urgency_then_age(worker: Worker, agent: FakeAgent) -> None:
    """I-Q-6: within one priority, first in is first out."""
    target = await listening(worker.pool, agent)
    await fill(worker.pool, target, "a", "b", "c")
    await fill(worker.pool, target, "low", priority=10)
    await fill(worker.pool, target, "high", priority=100)
    await fill(worker.pool, target, "d")
    worker.due_workspaces.add(target)
    worker.deliver()
    await agent.wait(6)
    assert agent.message_ids == ["high", "a", "b", "c", "d", "low"]


async def test_a_busy_agent_keeps_the_order(worker: Worker, agent: FakeAgent) -> None:
    """I-Q-6: no message overtakes an earlier one that is sent again."""
    target = await listening(worker.pool, agent)
    await fill(worker.pool, target, "a", "b", "c")
    agent.script = [agents.echo, agents.hangs_up, agents.hangs_up]
    worker.due_workspaces.add(target)
    worker.deliver()
    await agent.wait(5)
    assert agent.message_ids == ["a", "b", "b", "b", "c"]


async def test_a_message_that_the_agent_cannot_take_does_not_block_the_others(
    database_url: str, pool: Pool, agent: FakeAgent
) -> None:
    """I-Q-6 is about agents that are busy, not about messages that are bad."""
    target = await listening(pool, agent)
    ids = await fill(pool, target, "bad", "good")
    agent.script = [agents.answers(500, {"error": "no"})]
    async with worker_on(database_url, pool, outbound_backoff=30.0) as worker:
        worker.due_workspaces.add(target)
        worker.deliver()
        await worker.until(ids[1], "completed")
        assert (await worker.queued(ids[0]))["status"] == "queued"


async def test_one_workspace_does_not_wait_for_another(worker: Worker) -> None:
    """I-Q-6: the order is each workspace's own."""
    async with fake_agent(agents.hangs) as slow, fake_agent() as quick:
        first = await listening(worker.pool, slow)
        second = await listening(worker.pool, quick)
        await fill(worker.pool, first, "a", "b")
        await fill(worker.pool, second, "c", "d")
        worker.due_workspaces.add(first)
        worker.due_workspaces.add(second)
        worker.deliver()
        await slow.wait(1)
        await quick.wait(2)
        assert len(slow.received) == 1


@pytest.mark.parametrize(
    ("most", "active", "fresh", "sent"),
    [(1, 0, True, 1), (3, 0, True, 3), (3, 2, True, 1), (3, 3, True, 0), (3, 9, True, 0),
     (3, 3, False, 3)],
)  # fmt: skip
async def test_an_agent_gets_no_more_than_it_has_room_for(
    worker: Worker, agent: FakeAgent, most: int, active: int, fresh: bool, sent: int
) -> None:
    """By its last heartbeat, unless that is too old to mean anything."""
    target = await listening(worker.pool, agent, max_concurrent_tasks=most, active_tasks=active)
    await worker.pool.execute(
        "UPDATE workspaces SET last_heartbeat_at = now() - make_interval(secs => $2) WHERE id = $1",
        target,
        1 if fresh else 120,
    )
    await fill(worker.pool, target, *"abcdef")
    assert await claim(worker.pool, target) == list("abcdef")[:sent]
    assert await claim(worker.pool, target) == []


async def test_what_the_agent_has_not_yet_counted_is_counted(worker: Worker) -> None:
    """Of two slots the agent reported one taken; the other was filled after that report."""
    async with fake_agent() as agent:
        target = await listening(worker.pool, agent, max_concurrent_tasks=2, active_tasks=1)
        beat = "UPDATE workspaces SET last_heartbeat_at = clock_timestamp() WHERE id = $1"
        await worker.pool.execute(beat, target)
        await fill(worker.pool, target, *"abc")
        assert await claim(worker.pool, target) == ["a"]
        assert await claim(worker.pool, target) == []
        # The new report of one task counts our message.
        await worker.pool.execute(beat, target)
        assert await claim(worker.pool, target) == ["b"]
        assert await claim(worker.pool, target) == []


async def test_workers_that_claim_at_once_share_the_room(pool: Pool, agent: FakeAgent) -> None:
    """Never more in sending than there is room: who looks meanwhile waits, and then sees less."""
    target = await listening(pool, agent, max_concurrent_tasks=3)
    await fill(pool, target, *"abcdefgh")
    async with pool.acquire() as conn:
        transaction = conn.transaction()
        await transaction.start()
        first = await leases.claim(conn, [target], limit=2, owner="one", lease_seconds=60.0)
        second = asyncio.create_task(claim(pool, target, owner="two"))
        await asyncio.wait({second, asyncio.create_task(someone_waits(pool))}, return_when=FIRST)
        await transaction.commit()
    assert [row.message_id for row in first.rows] == ["a", "b"]
    assert await second == ["c"]


async def test_a_heartbeat_with_room_drains(worker: Worker, agent: FakeAgent) -> None:
    """Spec 3.2: at once, without waiting for the timer."""
    target = await listening(worker.pool, agent, active_tasks=1)
    await worker.pool.execute("UPDATE workspaces SET last_heartbeat_at = now()")
    await fill(worker.pool, target, "a", "b")
    worker.deliver()
    await worker.outbound.deliveries.sweep()
    await worker.landed()
    assert agent.received == []
    await worker.pool.execute("UPDATE workspaces SET active_tasks = 0, last_heartbeat_at = now()")
    worker.due_workspaces.agents_have_room([target])
    await agent.wait(2)


async def test_a_long_queue_is_not_searched(pool: Pool) -> None:
    """What is taken is found by its index, however much waits."""
    await hire(pool, 50, delivery_mode="push", runtime="langgraph")
    await pool.execute(
        """
        INSERT INTO a2a_queue (id, workspace_id, body, method)
        SELECT gen_random_uuid(), id, '{}', 'm' FROM workspaces, generate_series(1, 400)
        """
    )
    await pool.execute("ANALYZE")
    ids = [row["id"] for row in await pool.fetch("SELECT id FROM workspaces LIMIT 5")]
    plan = await pool.fetch(
        f"EXPLAIN {leases._CLAIM}", ids, 8, "owner", 60.0, EventType.DELEGATION_STATUS, []
    )
    text = "\n".join(row[0] for row in plan)
    assert "Seq Scan on a2a_queue" not in text
    assert "a2a_queue_order" in text


# Entering the queue.


async def test_the_same_message_waits_once(worker: Worker, caller: UUID) -> None:
    """A sender that asks again gets the same row, and the agent is not called again."""
    async with fake_agent(agents.hangs_up) as agent:
        target = await listening(worker.pool, agent)
        first = await worker.busy(caller, target, "x", message_id="m1")
        again = await worker.busy(caller, target, "x", message_id="m1")
        assert (first, len(agent.received)) == (again, 1)
        [other] = await hire(worker.pool, 1)
        assert await worker.busy(other, target, "y", message_id="m1") != first


async def test_an_expired_message_makes_room_for_its_repeat(worker: Worker, caller: UUID) -> None:
    async with fake_agent(agents.hangs_up) as agent:
        target = await listening(worker.pool, agent)
        first = await worker.busy(caller, target, "x", message_id="m1", expires_in_seconds=60)
        await worker.pool.execute("UPDATE a2a_queue SET expires_at = now()")
        again = await worker.busy(caller, target, "x", message_id="m1")
        assert again != first
        assert (await worker.queued(first))["status"] == "dropped"


async def test_what_has_expired_is_dropped_and_not_sent(worker: Worker, agent: FakeAgent) -> None:
    """I-Q-3: `last_error` says expired, also on rows without an error before."""
    target = await listening(worker.pool, agent)
    one, two = await fill(worker.pool, target, "a", "b")
    await worker.pool.execute("UPDATE a2a_queue SET expires_at = now()")
    await worker.pool.execute("UPDATE a2a_queue SET last_error = 'busy' WHERE id = $1", two)
    worker.deliver()
    await worker.outbound.deliveries.sweep()
    assert (await worker.queued(one))["last_error"] == "expired"
    assert (await worker.queued(two))["last_error"] == "expired; before that: busy"
    assert agent.received == []


async def test_a_full_queue_takes_no_more(database_url: str, pool: Pool, caller: UUID) -> None:
    """A message is answered with busy, a delegation is refused."""
    async with (
        fake_agent(agents.hangs_up) as agent,
        worker_on(database_url, pool, inbox_max_items=2) as worker,
    ):
        target = await listening(pool, agent)
        await fill(pool, target, "a", "b")
        with pytest.raises(Unavailable) as busy:
            await worker.post(caller, target, "c")
        assert (busy.value.reason, busy.value.body, busy.value.retry_after) == (
            "AGENT_BUSY",
            {"busy": True},
            30,
        )
        with pytest.raises(Exhausted) as full:
            await worker.delegate(caller, target)
        assert full.value.reason == "INBOX_FULL"
        assert await pool.fetchval("SELECT count(*) FROM delegations") == 0


async def test_what_ended_long_ago_is_deleted(worker: Worker, agent: FakeAgent) -> None:
    target = await listening(worker.pool, agent)
    await fill(worker.pool, target, "old", "new", "waiting")
    await worker.pool.execute(
        """
        UPDATE a2a_queue SET status = 'completed',
               completed_at = now() - CASE idempotency_key WHEN 'old' THEN interval '8 days'
                                                           ELSE interval '6 days' END
        WHERE idempotency_key <> 'waiting'
        """
    )
    assert await upkeep.prune(worker.pool, days=7, limit=10) == 1
    left = [row["idempotency_key"] for row in await worker.queue_of(target)]
    assert left == ["new", "waiting"]


# Delegations.


async def test_a_delegation_and_its_message_are_accepted_as_one(
    worker: Worker, agent: FakeAgent, caller: UUID
) -> None:
    """Decision 10: the task is on disk when Delegate answers, and nobody needs to be up."""
    target = await listening(worker.pool, agent)
    delegation_id = await worker.delegate(caller, target, "count")
    [row] = await worker.queue_of(target)
    assert (row["status"], row["delegation_id"], row["idempotency_key"], row["caller_id"]) == (
        "queued",
        delegation_id,
        delegation_id,
        caller,
    )
    assert (await worker.row(delegation_id))["status"] == "queued"
    [recorded] = await worker.record_of(target)
    assert (recorded["method"], recorded["inbox_seq"]) == ("delegate", None)
    assert await worker.items(target) == []


async def test_a_delegation_is_delivered_with_its_own_id_and_completes(
    worker: Worker, agent: FakeAgent, caller: UUID
) -> None:
    """D12, I-Q-4: ledger, record and the caller's inbox agree, text and all."""
    target = await listening(worker.pool, agent)
    worker.deliver()
    delegation_id = await worker.delegate(caller, target, "count")
    row = await worker.ended(delegation_id)
    assert (row["status"], row["result"], row["result_preview"]) == (
        "completed",
        "echo: count",
        "echo: count",
    )
    [request] = agent.received
    message = request.body["params"]["message"]
    assert (message["messageId"], message["role"]) == (delegation_id, "user")
    assert message["metadata"] == {"delegation_id": delegation_id}
    assert message["parts"] == [{"kind": "text", "text": "count"}]
    [item] = await worker.items(caller)
    assert (item["method"], item["activity_status"]) == ("delegate_result", "ok")
    await worker.landed()
    [recorded] = await worker.record_of(target)
    assert "echo: count" in recorded["response_body"]
    assert recorded["duration_ms"] is not None


async def test_a_delegation_says_that_it_was_dispatched(worker: Worker, caller: UUID) -> None:
    """Spec 5.2: while the agent works the ledger says so, and a beat is not taken back."""
    answer = asyncio.Event()
    async with fake_agent(agents.waits_for(answer, agents.hangs_up)) as agent:
        target = await listening(worker.pool, agent)
        worker.deliver()
        delegation_id = await worker.delegate(caller, target)
        await agent.wait(1)
        assert (await worker.row(delegation_id))["status"] == "dispatched"
        await worker.beat(target, delegation_id)
        answer.set()
        await agent.wait(2)
        assert (await worker.row(delegation_id))["status"] == "in_progress"


async def test_exhausted_attempts_fail_the_delegation(
    worker: Worker, agent: FakeAgent, caller: UUID
) -> None:
    """I-Q-4: and its caller hears of it."""
    agent.behave = agents.answers(500, {"error": "no"})
    target = await listening(worker.pool, agent)
    worker.deliver()
    delegation_id = await worker.delegate(caller, target)
    row = await worker.ended(delegation_id)
    assert (row["failure_reason"], row["error_detail"]) == ("exhausted", "no")
    assert agent.message_ids == [delegation_id] * 5
    [item] = await worker.items(caller)
    assert item["activity_status"] == "error"


async def test_an_unreachable_agent_is_tried_twice(worker: Worker, caller: UUID) -> None:
    """Spec 5.2: a second try after a pause, then the delegation has failed."""
    async with fake_agent() as gone:
        target = await listening(worker.pool, gone)
    worker.deliver()
    row = await worker.ended(await worker.delegate(caller, target))
    assert (row["status"], row["failure_reason"]) == ("failed", "unreachable")
    assert row["error_detail"].startswith("failed to reach workspace agent")
    await worker.landed()
    [queued] = await worker.queue_of(target)
    assert (queued["status"], queued["attempts"], queued["misses"]) == ("failed", 0, 2)


async def test_an_agent_that_comes_back_in_time_gets_its_task(worker: Worker, caller: UUID) -> None:
    async with fake_agent() as agent:
        target = await listening(worker.pool, agent)
        await agent.stop()
        worker.deliver()
        delegation_id = await worker.delegate(caller, target)
        [queued] = await worker.queue_of(target)
        async with asyncio.timeout(PATIENCE):
            while (await worker.queued(queued["id"]))["misses"] == 0:
                await worker.landed()
        await agent.start()
        assert (await worker.ended(delegation_id))["status"] == "completed"


@pytest.mark.parametrize(
    ("behave", "reason", "detail"),
    [
        (agents.answers(200, b""), "agent_error", "workspace agent returned empty response"),
        (agents.answers(200, {"error": {"message": "broken"}}), "agent_error", "broken"),
        (agents.answers(422, {"error": "not mine"}), "refused", "not mine"),
        (agents.answers(200, b"<html>"), "agent_error", "the agent's answer is not JSON"),
    ],
)
async def test_how_an_answer_fails_a_delegation(
    worker: Worker, agent: FakeAgent, caller: UUID, behave: Any, reason: str, detail: str
) -> None:
    agent.behave = behave
    target = await listening(worker.pool, agent)
    worker.deliver()
    row = await worker.ended(await worker.delegate(caller, target))
    assert (row["status"], row["failure_reason"], row["error_detail"]) == (
        "failed",
        reason,
        detail,
    )


async def delegate_often(worker: Worker, caller: UUID, target: UUID) -> str:
    return await worker.delegate(caller, target, max_attempts=3, retry_backoff_seconds=1)


async def test_an_id_that_another_organisation_uses_too_is_delivered_like_any_other(
    worker: Worker, agent: FakeAgent, caller: UUID
) -> None:
    """P6: claim, answer and end find the delegation of the agent that was called."""
    target = await listening(worker.pool, agent)
    name = await worker.delegate(caller, target)
    await worker.pool.execute(
        """
        INSERT INTO delegations (delegation_id, caller_id, callee_id, organization_id, task_preview)
        VALUES ($1, $2, $2, $2, 'another')
        """,
        name,
        new_id(),
    )
    worker.deliver()
    async with asyncio.timeout(PATIENCE):
        while not await worker.items(caller):
            await worker.landed()
            await asyncio.sleep(0.01)
    rows = await worker.pool.fetch("SELECT task_preview, status FROM delegations ORDER BY 1")
    assert [tuple(row) for row in rows] == [("another", "queued"), ("task", "completed")]


async def test_event_says_that_a_result_came_by_the_queue(
    worker: Worker, agent: FakeAgent, caller: UUID
) -> None:
    """Spec 3.2: `via`, where the agent answered and no party reported."""
    target = await listening(worker.pool, agent)
    reported = await worker.delegate(caller, target)
    await worker.update(target, reported, "completed", "12")
    worker.deliver()
    await worker.ended(await worker.delegate(caller, target))
    events = await worker.pool.fetch(
        "SELECT payload::text FROM structure_events WHERE event_type = 'DELEGATION_COMPLETE'"
        " ORDER BY position"
    )
    assert [json.loads(row["payload"]).get("via") for row in events] == [None, "queue_drain"]


async def test_another_attempt_goes_the_same_way_under_an_id_of_its_own(
    worker: Worker, agent: FakeAgent, caller: UUID
) -> None:
    """The caller's policy: `<id>#2` after its backoff, and one result in the end."""
    agent.script = [agents.answers(200, {"error": {"message": "flaky"}})]
    target = await listening(worker.pool, agent)
    worker.deliver()
    delegation_id = await delegate_often(worker, caller, target)
    await agent.wait(1)
    await worker.landed()
    _, second = await worker.queue_of(target)
    assert second["next_attempt_at"] > second["enqueued_at"]
    await worker.pool.execute("UPDATE a2a_queue SET next_attempt_at = now()")
    worker.due_workspaces.add(target)
    row = await worker.ended(delegation_id)
    assert (row["status"], row["retry_count"]) == ("completed", 1)
    assert agent.message_ids == [delegation_id, f"{delegation_id}#2"]
    assert agent.received[1].body["params"]["message"]["metadata"] == {
        "delegation_id": delegation_id
    }
    assert await worker.items(target) == []
    assert len(await worker.items(caller)) == 1


async def test_a_delivered_task_is_not_sent_again_whatever_the_policy(
    worker: Worker, agent: FakeAgent, caller: UUID
) -> None:
    """I-PX-3: its answer was lost, not the task."""
    agent.behave = agents.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    target = await listening(worker.pool, agent)
    worker.deliver()
    row = await worker.ended(await delegate_often(worker, caller, target))
    assert (row["status"], row["failure_reason"]) == ("failed", "agent_error")
    assert len(await worker.queue_of(target)) == 1
    assert len(agent.received) == 1


@pytest.mark.parametrize(
    "receipt",
    [
        {"status": "queued", "delivery_mode": "poll", "method": "message/send"},
        {"result": {"kind": "task", "id": "t", "status": {"state": "working"}}},
    ],
)
async def test_a_receipt_is_not_a_result(
    worker: Worker, agent: FakeAgent, caller: UUID, receipt: Any
) -> None:
    """I-PX-6: the delegation stays open, and ends by the agent's own report."""
    agent.behave = agents.answers(200, receipt)
    target = await listening(worker.pool, agent)
    worker.deliver()
    delegation_id = await worker.delegate(caller, target)
    await agent.wait(1)
    await worker.landed()
    assert (await worker.row(delegation_id))["status"] == "dispatched"
    await worker.update(target, delegation_id, "completed", "at last")
    assert (await worker.row(delegation_id))["result"] == "at last"


async def test_an_agent_that_has_turned_to_its_inbox_finds_the_task_there(
    worker: Worker, agent: FakeAgent, caller: UUID
) -> None:
    """I-PX-6: what is put into an inbox is no result, and the URL is not called."""
    target = await listening(worker.pool, agent)
    delegation_id = await worker.delegate(caller, target, "count")
    [message_id] = await fill(worker.pool, target, "hello")
    await worker.pool.execute(
        "UPDATE workspaces SET delivery_mode = 'poll', url = '' WHERE id = $1", target
    )
    worker.deliver()
    await worker.until(message_id, "completed")
    task, hello = await worker.items(target)
    assert (task["method"], task["delegation_id"], task["source_id"]) == (
        "delegate",
        delegation_id,
        caller,
    )
    assert (hello["method"], hello["message_id"]) == ("message/send", "hello")
    assert (await worker.row(delegation_id))["status"] == "dispatched"
    assert agent.received == []


async def test_a_task_that_was_called_off_is_not_sent(
    worker: Worker, agent: FakeAgent, caller: UUID
) -> None:
    target = await listening(worker.pool, agent)
    delegation_id = await worker.delegate(caller, target)
    await worker.ledger.moves.cancel(caller, delegation_id, reason="")
    worker.deliver()
    [row] = await worker.queue_of(target)
    await worker.until(row["id"], "dropped")
    assert agent.received == []


async def test_a_removed_workspace_is_sent_nothing(
    worker: Worker, agent: FakeAgent, caller: UUID
) -> None:
    target = await listening(worker.pool, agent)
    delegation_id = await worker.delegate(caller, target)
    await worker.pool.execute("UPDATE workspaces SET status = 'removed' WHERE id = $1", target)
    worker.deliver()
    row = await worker.ended(delegation_id)
    assert (row["status"], row["failure_reason"]) == ("failed", "refused")
    assert agent.received == []


async def test_an_agent_that_has_yet_to_register_gets_its_task(
    worker: Worker, agent: FakeAgent, caller: UUID
) -> None:
    target = await listening(worker.pool, None)
    worker.deliver()
    delegation_id = await worker.delegate(caller, target)
    [row] = await worker.queue_of(target)
    async with asyncio.timeout(PATIENCE):
        while (await worker.queued(row["id"]))["settling_since"] is None:
            await worker.landed()
    await worker.pool.execute("UPDATE workspaces SET url = $2 WHERE id = $1", target, agent.url)
    assert (await worker.ended(delegation_id))["status"] == "completed"


async def test_a_result_after_the_deadline_is_delivered_late(worker: Worker, caller: UUID) -> None:
    """D15: however long the agent takes, its text reaches the caller's inbox."""
    answer = asyncio.Event()
    async with fake_agent(agents.waits_for(answer, agents.says("at last"))) as agent:
        target = await listening(worker.pool, agent)
        worker.deliver()
        delegation_id = await worker.delegate(caller, target)
        await agent.wait(1)
        await worker.ledger.moves.fail(target, delegation_id, error="deadline", reason="deadline")
        answer.set()
        await worker.landed()
        failed, late = await worker.items(caller)
    assert (failed["late"], late["late"]) == (False, True)
    assert json.loads(late["response_body"])["text"] == "at last"


async def test_a_budget_that_is_used_up_refuses_the_task(
    worker: Worker, agent: FakeAgent, caller: UUID
) -> None:
    target = await listening(worker.pool, agent, budget_limit=100, monthly_spend=100)
    worker.deliver()
    row = await worker.ended(await worker.delegate(caller, target))
    assert (row["failure_reason"], agent.received) == ("refused", [])


# Callers who leave.


async def test_a_caller_that_hangs_up_stops_nothing(worker: Worker, caller: UUID) -> None:
    """Spec 2.4: a dispatch that was sent goes on, and its answer is recorded."""
    answer = asyncio.Event()
    async with fake_agent(agents.waits_for(answer, agents.says("done"))) as agent:
        target = await listening(worker.pool, agent)
        call = asyncio.create_task(worker.post(caller, target, "x"))
        await agent.wait(1)
        call.cancel()
        await asyncio.wait({call})
        answer.set()
        await worker.landed()
        [row] = await worker.record_of(target)
    assert "done" in row["response_body"]


async def test_a_human_out_of_patience_gets_a_receipt_and_the_agent_its_time(
    database_url: str, pool: Pool
) -> None:
    """I-PX-1: `push-async`: on disk before the answer leaves, and the answer is kept there."""
    answer = asyncio.Event()
    async with (
        fake_agent(agents.waits_for(answer, agents.says("done"))) as agent,
        worker_on(database_url, pool, outbound_canvas_wait=0.2) as worker,
    ):
        target = await listening(pool, agent)
        receipt, call = await worker.post(None, target, "x", message_id="m1")
        said = json.loads(receipt.data)
        assert (said["status"], said["delivery_mode"], said["method"]) == (
            "queued",
            "push-async",
            "message/send",
        )
        assert "x-http-code" not in call.headers
        row = await worker.queued(UUID(said["queue_id"]))
        assert (row["status"], row["idempotency_key"]) == ("dispatched", "m1")
        again, _ = await worker.post(None, target, "x", message_id="m1")
        assert json.loads(again.data)["queue_id"] == said["queue_id"]
        answer.set()
        row = await worker.until(row["id"], "completed")
        assert "done" in row["response_body"]
        assert len(agent.received) == 1
        assert len(await worker.record_of(target)) == 1


async def test_an_outcome_beats_the_end_of_patience(
    database_url: str, pool: Pool, caller: UUID
) -> None:
    """The message was about to be queued as busy: it is not queued as under way as well."""
    # A connection outside of the pool: a task that holds one of the pool's may send no call.
    conn = await connect(database_url)
    async with (
        fake_agent(agents.hangs_up) as agent,
        worker_on(database_url, pool) as worker,
    ):
        target = await listening(pool, agent)
        call = call_of(caller)
        call.metadata = {"x-timeout": "0.2"}
        transaction = conn.transaction()
        await transaction.start()
        await conn.execute("LOCK TABLE a2a_queue IN EXCLUSIVE MODE")
        sending = asyncio.create_task(worker.post(caller, target, "x", call=call))
        await someone_waits(pool)
        await asyncio.wait({sending}, timeout=0.4)
        await transaction.rollback()
        body, _ = await sending
    await conn.close()
    assert json.loads(body.data)["queued"] is True
    assert len(await worker.queue_of(target)) == 1


async def test_what_a_human_left_behind_survives_the_worker(database_url: str, pool: Pool) -> None:
    """I-PX-1: the receipt was given by one worker, the message is delivered by another."""
    async with fake_agent() as agent:
        agent.script = [agents.hangs]
        target = await listening(pool, agent)
        async with worker_on(database_url, pool, outbound_canvas_wait=0.1) as first:
            first.outbound.sending._wait_limit = 0.0
            receipt, _ = await first.post(None, target, "x", message_id="m1")
        async with worker_on(database_url, pool) as second:
            second.deliver()
            await second.outbound.deliveries.sweep()
            await second.until(UUID(json.loads(receipt.data)["queue_id"]), "completed")
    assert agent.message_ids == ["m1", "m1"]


# Makes the commit of a message for the queue wait for whoever holds advisory lock 7.
_SLOW_COMMIT = """
    CREATE FUNCTION wait_for_lock() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON a2a_queue DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION wait_for_lock()
"""
_BREAK = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND pid <> ALL($1)
"""


@pytest.mark.parametrize("how", ["the caller leaves", "the connection breaks"])
@pytest.mark.parametrize("when", ["at the insert", "at the commit", "after the commit"])
async def test_a_message_is_in_hand_no_longer_than_its_call(
    database_url: str, pool: Pool, how: str, when: str
) -> None:
    """A handover to the queue may break off anywhere: the answer is kept, the slot is free."""
    lock, table = await connect(database_url), await connect(database_url)
    pids = [lock.get_server_pid(), table.get_server_pid()]
    answer = asyncio.Event()
    async with (
        fake_agent(agents.echo) as agent,
        worker_on(database_url, pool, outbound_canvas_wait=0.1) as worker,
    ):
        agent.script = [agents.waits_for(answer, agents.says("done"))]
        target = await listening(pool, agent, max_concurrent_tasks=1)
        await lock.execute(_SLOW_COMMIT)
        await lock.fetchval("SELECT pg_advisory_lock(7)")
        await table.execute("BEGIN")
        if when == "at the insert":
            await table.execute("LOCK TABLE a2a_queue IN SHARE MODE")
        sending = asyncio.create_task(worker.post(None, target, "x", message_id="m1"))
        await someone_waits(pool)
        if when == "after the commit":
            # Nobody reads or writes the queue once the message is in it.
            locking = asyncio.create_task(table.execute("LOCK TABLE a2a_queue"))
            await someone_waits(pool, 2)
            await lock.fetchval("SELECT pg_advisory_unlock(7)")
            await locking
        waiting = asyncio.create_task(someone_waits(pool))
        await asyncio.wait({sending, waiting}, return_when=FIRST)
        waiting.cancel()
        if how == "the caller leaves":
            sending.cancel()
        else:
            await pool.execute(_BREAK, pids)
        await asyncio.wait({sending})
        await table.execute("ROLLBACK")
        await lock.fetchval("SELECT pg_advisory_unlock(7)")
        answer.set()
        await worker.landed()
        assert worker.outbound.queue.held == set()
        [row] = await worker.record_of(target)
        assert "done" in row["response_body"]
        [next_id] = await fill(pool, target, "m2")
        worker.due_workspaces.add(target)
        worker.deliver()
        await worker.until(next_id, "completed")
    assert agent.message_ids == ["m1", "m2"]
    await lock.close()
    await table.close()


@pytest.mark.parametrize("header", ["0.1", "x"])
async def test_the_callers_patience_is_its_own(
    database_url: str, pool: Pool, caller: UUID, header: str
) -> None:
    """`X-Timeout` in seconds; nonsense is ignored, and an agent waits as long as it takes."""
    answer = asyncio.Event()
    async with (
        fake_agent(agents.waits_for(answer, agents.says("done"))) as agent,
        worker_on(database_url, pool) as worker,
    ):
        target = await listening(pool, agent)
        call = call_of(caller)
        call.metadata = {"x-timeout": header}
        sending = asyncio.create_task(worker.post(caller, target, "x", call=call))
        await agent.wait(1)
        await asyncio.wait({sending}, timeout=PATIENCE if header == "0.1" else 0.5)
        assert sending.done() is (header == "0.1")
        answer.set()
        body, _ = await sending
        assert (json.loads(body.data).get("delivery_mode") == "push-async") is (header == "0.1")


async def test_a_task_is_not_two_items_when_its_callee_reads_its_inbox_too(
    worker: Worker, agent: FakeAgent, caller: UUID
) -> None:
    """A row for a push target is never an inbox item."""
    target = await listening(worker.pool, agent)
    worker.deliver()
    await worker.ended(await worker.delegate(caller, target))
    await worker.post(caller, target)
    assert await worker.items(target) == []
    assert (
        await worker.pool.fetchval(
            "SELECT coalesce(max(last_seq), 0) FROM inbox_heads WHERE workspace_id = $1", target
        )
        == 0
    )


# Operators.


async def test_stale_messages_are_let_go_of_and_their_delegations_fail(
    worker: Worker, agent: FakeAgent, caller: UUID
) -> None:
    """I-Q-3, I-Q-4: with the reason on the row, and the caller hears of it."""
    target = await listening(worker.pool, agent)
    other = await listening(worker.pool, agent)
    delegation_id = await worker.delegate(caller, target)
    [old] = await fill(worker.pool, target, "old")
    [elsewhere] = await fill(worker.pool, other, "old")
    await worker.pool.execute("UPDATE a2a_queue SET enqueued_at = now() - interval '61 minutes'")
    [new] = await fill(worker.pool, target, "new")
    hour = timedelta(minutes=60)
    assert await worker.outbound.queue_queries.drop_stale(hour, target, None) == 2
    row = await worker.queued(old)
    assert (row["status"], row["last_error"]) == (
        "dropped",
        "dropped from the queue by an operator",
    )
    assert (await worker.queued(new))["status"] == "queued"
    assert (await worker.queued(elsewhere))["status"] == "queued"
    failed = await worker.row(delegation_id)
    assert (failed["status"], failed["failure_reason"]) == ("failed", "exhausted")
    [item] = await worker.items(caller)
    assert item["activity_status"] == "error"
    assert await worker.outbound.queue_queries.drop_stale(hour, None, new_id()) == 0
    assert await worker.outbound.queue_queries.drop_stale(hour, None, None) == 1


async def test_the_depth_and_the_age_of_the_queue_are_seen(
    worker: Worker, agent: FakeAgent
) -> None:
    target = await listening(worker.pool, agent)
    await fill(worker.pool, target, "a", "b")
    await worker.pool.execute("UPDATE a2a_queue SET enqueued_at = now() - interval '1 minute'")
    await worker.outbound.deliveries.sweep()
    assert REGISTRY.get_sample_value("molecule_a2a_queue_depth") == 2
    age = REGISTRY.get_sample_value("molecule_a2a_queue_age_seconds")
    assert age is not None
    assert 60 <= age < 90


async def test_an_agent_that_only_seems_busy_gets_its_messages(
    worker: Worker, agent: FakeAgent, caller: UUID
) -> None:
    """D53: nothing in its record for ten minutes; each reset counts once, and who works is left
    alone."""

    def resets() -> float:
        return REGISTRY.get_sample_value("molecule_phantom_busy_resets_total") or 0.0

    phantom = await listening(worker.pool, agent, active_tasks=1, current_task="x")
    works = await listening(worker.pool, agent, active_tasks=1)
    called = await listening(worker.pool, agent, active_tasks=1, max_concurrent_tasks=2)
    await worker.pool.execute("UPDATE workspaces SET last_heartbeat_at = now()")
    await worker.post(caller, works)
    await fill(worker.pool, called, "a")
    await claim(worker.pool, called)
    await fill(worker.pool, phantom, "b")
    await worker.outbound.deliveries.sweep()
    before = resets()
    await worker.outbound.deliveries.reset_phantoms()
    await worker.outbound.deliveries.reset_phantoms()
    assert resets() == before + 1
    rows = await worker.pool.fetch(
        "SELECT id, active_tasks, current_task FROM workspaces WHERE id = ANY($1)",
        [phantom, works, called],
    )
    assert {row["id"]: row["active_tasks"] for row in rows} == {phantom: 0, works: 1, called: 1}
    worker.deliver()
    await agent.wait(2)
    assert agent.message_ids[-1] == "b"
