"""While agents misbehave and servers are killed no delegation is lost, and none that reached its
agent is sent again on purpose."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest

from tests import fake_agent as agents
from tests.conftest import LONG
from tests.e2e.calling import Office, a_message, send
from tests.e2e.parties import Agent, found, wire_to
from tests.fake_agent import fake_agent
from tests.running import RunningServer
from tests.waiting import PATIENCE

pytestmark = pytest.mark.slow

MIB = 1_048_576
QUICK = {
    "MOLECULE_ENV": "development",
    "MOLECULE_A2A_LEASE_SECONDS": "2",
    "MOLECULE_A2A_DRAIN_INTERVAL_S": "0.5",
    "MOLECULE_A2A_BACKOFF_SECONDS": "0.2",
    "MOLECULE_A2A_CANVAS_WAIT_SECONDS": "0.5",
}


@contextlib.asynccontextmanager
async def office_at(server: RunningServer) -> AsyncIterator[Office]:
    database = await asyncpg.connect(server.database_url)
    try:
        async with wire_to(server) as wire:
            operator = wire.party(server.admin_token)
            yield Office(await found(wire, operator), operator, database)
    finally:
        await database.close()


async def delegate(sender: Agent, target: Agent, task: str = "task") -> str:
    answer = await sender.rest(
        "POST", f"/workspaces/{sender.id}/delegate", {"target_id": target.id, "task": task}
    )
    assert answer.status_code == 202, answer.text
    name: str = answer.json()["delegation_id"]
    return name


async def ended(office: Office, *names: str) -> dict[str, tuple[str, str]]:
    """Status and result of these delegations, when none is under way any more."""
    async with asyncio.timeout(PATIENCE):
        while True:
            rows = await office.database.fetch(
                "SELECT delegation_id, status, coalesce(result, error_detail, '') AS said"
                " FROM delegations WHERE delegation_id = ANY($1)",
                list(names),
            )
            if all(row["status"] in ("completed", "failed", "stuck") for row in rows):
                return {row["delegation_id"]: (row["status"], row["said"]) for row in rows}
            await asyncio.sleep(0.1)


async def results(office: Office, sender: Agent) -> dict[str, int]:
    """How many results a sender's inbox holds, by delegation."""
    rows = await office.database.fetch(
        "SELECT delegation_id FROM inbox_items"
        " WHERE workspace_id = $1 AND method = 'delegate_result'",
        sender.id,
    )
    return collections.Counter(row["delegation_id"] for row in rows)


async def at_rest(office: Office) -> None:
    """Return when no message is in the queue any more."""
    async with asyncio.timeout(PATIENCE):
        while await office.database.fetchval(
            "SELECT count(*) FROM a2a_queue WHERE status IN ('queued', 'dispatched')"
        ):
            await asyncio.sleep(0.1)


def memory(server: RunningServer) -> int:
    """Bytes that the workers hold."""
    workers = server.workers()
    assert workers
    return sum(worker.memory_info().rss for worker in workers)


# Delegations that are called off.


async def test_a_cancelled_delegation_is_hung_up_on_wherever_it_is(
    own_server: Callable[..., RunningServer],
) -> None:
    """On either worker: the caller is told one end, and the agent's slot is free again."""
    server = own_server(**QUICK, WORKERS="2")
    async with office_at(server) as office, fake_agent(agents.hangs) as agent:
        sender, target = await office.org.hire(), await office.listening(agent)
        await office.database.execute("UPDATE workspaces SET max_concurrent_tasks = 8")
        names = [await delegate(sender, target, f"task {n}") for n in range(8)]
        await agent.wait(8)
        for name in names:
            path = f"/workspaces/{sender.id}/delegations/{name}/cancel"
            assert (await sender.rest("POST", path, {})).json()["applied"] is True
        async with asyncio.timeout(PATIENCE):
            for request in agent.received:
                await request.gone.wait()
        await at_rest(office)
        assert {status for status, _ in (await ended(office, *names)).values()} == {"failed"}
        assert await results(office, sender) == dict.fromkeys(names, 1)
        rows = await office.database.fetch("SELECT status, last_error FROM a2a_queue")
        assert {tuple(row) for row in rows} == {("dropped", "its delegation has ended")}
        agent.behave = agents.echo
        name = await delegate(sender, target, "another")
        assert (await ended(office, name))[name] == ("completed", "echo: another")


# Agents that misbehave.


async def test_a_server_among_hostile_agents_lives_within_its_memory(
    own_server: Callable[..., RunningServer],
) -> None:
    """Ten gigabytes from each of twenty agents at once, others that hang, lie and hang up; and a
    well-behaved one is served all the while."""
    server = own_server(
        **QUICK,
        A2A_IDLE_TIMEOUT_SECONDS="3",
        # The calls of one token wait for one another, on a busy machine more than 10 s.
        MOLECULE_STATEMENT_PATIENCE_SECONDS=str(PATIENCE),
    )
    behaviours = {
        "flood": (agents.floods(10**10, declared=False), 502),
        "announced flood": (agents.floods(10**10, declared=True), 502),
        "garbage": (agents.answers(200, b"\x00\x01garbage"), 502),
        "short": (agents.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"), 502),
        "redirect": (agents.answers(302, {}, Location="http://169.254.169.254/"), 302),
        "error": (agents.answers(500, {"error": "x"}), 500),
        "hangs up": (agents.hangs_up, 202),
        "hangs": (agents.hangs, 202),
        "deep": (agents.answers(200, b"[" * MIB), 502),
        "wide": (agents.answers(200, b"[" + b"[]," * (3 * MIB) + b"[]]"), 200),
    }
    async with office_at(server) as office, contextlib.AsyncExitStack() as stack:
        sender = await office.org.hire()
        polite = await office.listening(await stack.enter_async_context(fake_agent()))
        hostile = {}
        for name, (behave, _) in behaviours.items():
            agent = await stack.enter_async_context(fake_agent(behave))
            hostile[name] = await office.listening(agent)
        before = peak = memory(server)

        async def bother(name: str) -> None:
            answer = await send(sender, hostile[name])
            assert answer.status_code == behaviours[name][1], (name, answer.text[:200])

        calls = [asyncio.create_task(bother(name)) for name in behaviours]
        calls += [asyncio.create_task(bother("flood")) for _ in range(20)]
        while not all(call.done() for call in calls):
            await asyncio.wait(calls, timeout=0.2)
            peak = max(peak, memory(server))
            answer = await send(sender, polite)
            assert answer.status_code == 200, answer.text
        await asyncio.gather(*calls)
        print(f"\nworkers: {before // MIB} MiB at rest, {peak // MIB} MiB at most")
        assert peak - before < 500 * MIB
        assert server.healthy()


# Servers that die.


async def test_killed_between_accept_and_dispatch(
    own_server: Callable[..., RunningServer],
) -> None:
    """Decision 10: what was accepted is on disk, and is delivered by whoever comes next."""
    server = own_server(**QUICK)
    async with fake_agent() as agent, office_at(server) as office:
        sender = await office.org.hire()
        target = await office.listening(agent)
        await beat(target, active=1)
        names = [await delegate(sender, target, f"task {n}") for n in range(5)]
        server.restart()
        assert agent.received == []
        await beat(target, active=0)
        outcome = await ended(office, *names)
        assert outcome == {name: ("completed", f"echo: task {n}") for n, name in enumerate(names)}
        assert agent.message_ids == names
        assert await results(office, sender) == dict.fromkeys(names, 1)


async def beat(target: Agent, *, active: int) -> None:
    body = {"workspace_id": target.id, "active_tasks": active}
    assert (await target.rest("POST", "/registry/heartbeat", body)).status_code == 200


async def test_killed_during_dispatch(own_server: Callable[..., RunningServer]) -> None:
    """The lease ends, another worker sends the same message under the same id."""
    server = own_server(**QUICK)
    async with fake_agent() as agent, office_at(server) as office:
        sender = await office.org.hire()
        target = await office.listening(agent)
        agent.script = [agents.hangs]
        name = await delegate(sender, target, "x")
        await agent.wait(1)
        server.restart()
        assert await ended(office, name) == {name: ("completed", "echo: x")}
        assert agent.message_ids == [name, name]
        assert await results(office, sender) == {name: 1}


async def test_killed_after_a_receipt(own_server: Callable[..., RunningServer]) -> None:
    """I-PX-1: both receipts that a sender can get for a message are promises."""
    server = own_server(**QUICK)
    async with fake_agent() as agent, office_at(server) as office:
        target = await office.listening(agent)
        agent.script = [agents.hangs_up, agents.hangs]
        busy = (await send(office.operator, target, a_message(messageId="busy"))).json()
        assert busy["queued"] is True
        await office.database.execute(
            "UPDATE a2a_queue SET next_attempt_at = now() + interval '1 hour'"
        )
        left = (await send(office.operator, target, a_message(messageId="left"))).json()
        assert left["delivery_mode"] == "push-async"
        server.kill()
        await office.database.execute("UPDATE a2a_queue SET next_attempt_at = now()")
        server.start()
        await at_rest(office)
        statuses = await office.database.fetch("SELECT id::text, status FROM a2a_queue")
        assert {row["id"]: row["status"] for row in statuses} == {
            busy["queue_id"]: "completed",
            left["queue_id"]: "completed",
        }
        assert sorted(agent.message_ids) == ["busy", "busy", "left", "left"]


async def test_killed_after_the_answer(own_server: Callable[..., RunningServer]) -> None:
    """What has ended in the ledger is not sent again, even if its row still says that it is under
    way."""
    server = own_server(**QUICK)
    async with fake_agent() as agent, office_at(server) as office:
        sender = await office.org.hire()
        target = await office.listening(agent)
        name = await delegate(sender, target, "x")
        await ended(office, name)
        server.kill()
        # As if the server had died between the ledger's commit and the queue's.
        await office.database.execute(
            "UPDATE a2a_queue SET status = 'dispatched', lease_owner = 'dead', lease_until = now()"
        )
        server.start()
        await at_rest(office)
        row = await office.database.fetchrow("SELECT status, last_error FROM a2a_queue")
        assert row is not None
        assert tuple(row) == ("dropped", "its delegation has ended")
        assert agent.message_ids == [name]
        assert await results(office, sender) == {name: 1}


async def test_killed_at_any_moment(own_server: Callable[..., RunningServer]) -> None:
    """Many agents, many delegations, a server that keeps dying: each one ends once with its own
    text, and only what was in the air when it died may have been sent twice."""
    server = own_server(**QUICK)
    kills, crowd, each = (3, 5, 12) if LONG else (2, 5, 6)
    sent: list[str] = []
    async with office_at(server) as office, contextlib.AsyncExitStack() as stack:
        sender = await office.org.hire()
        bodies = [await stack.enter_async_context(fake_agent(takes_a_moment)) for _ in range(crowd)]
        targets = [await office.listening(agent, max_concurrent_tasks=4) for agent in bodies]
        for _ in range(kills):
            accepted = await asyncio.gather(
                *(delegate(sender, target, f"to {target.id}") for target in targets * each)
            )
            sent += accepted
            # Any moment will do: no event marks it.
            await asyncio.sleep(random.uniform(0.0, 0.5))
            server.kill()
            server.start()
        outcome = await ended(office, *sent)
        await at_rest(office)
        assert {status for status, _ in outcome.values()} == {"completed"}
        assert await results(office, sender) == dict.fromkeys(sent, 1)
    arrived = collections.Counter(
        request.message_id for agent in bodies for request in agent.received
    )
    assert set(arrived) == set(sent)
    again = sum(arrived.values()) - len(sent)
    most = kills * crowd * 4
    print(f"\n{kills} kills, {len(sent)} delegations, {again} sent again, {most} at most")
    assert again <= most


async def takes_a_moment(request: agents.Received, writer: Any) -> None:
    await asyncio.sleep(0.1)
    await agents.echo(request, writer)
