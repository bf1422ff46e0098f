"""What the platform asks of other machines for one organisation is not in another's way."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator, Iterator

import psutil
import pytest

from tests.conftest import execute, with_database
from tests.e2e.calling import a_message, register, send
from tests.e2e.parties import Agent, Organization, Wire, found, wire_to
from tests.fake_agent import echo, fake_agent, hangs, waits_for
from tests.name_server import NameServer, name_server
from tests.running import RunningServer
from tests.waiting import until

LOOKUPS = 6
FAST = "agent.test"
CALLS_TO_ONE, CALLS = 4, 10
IMPATIENT = {"x-timeout": "0.1"}


@pytest.fixture(scope="module")
def names() -> Iterator[NameServer]:
    with name_server({FAST: [("127.0.0.1",)]}) as running:
        yield running


@pytest.fixture(scope="module")
def calling_server(
    postgres: str, template: str, names: NameServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server that may call this machine, with budgets that a test can use up."""
    asyncio.run(execute(postgres, f"CREATE DATABASE outgoing TEMPLATE {template}"))
    running = RunningServer(
        with_database(postgres, "outgoing"),
        tmp_path_factory.mktemp("outgoing"),
        MOLECULE_ENV="development",
        MOLECULE_NAME_SERVERS=f"127.0.0.1:{names.port}",
        MOLECULE_LOOKUPS_PER_ORGANIZATION=str(LOOKUPS),
        MOLECULE_CALLS_PER_AGENT=str(CALLS_TO_ONE),
        MOLECULE_CALLS_PER_ORGANIZATION=str(CALLS),
        MOLECULE_CALLS_PER_WORKER=str(3 * CALLS),
        MOLECULE_CALL_BYTES_PER_ORGANIZATION=str(1_000_000),
        MOLECULE_A2A_BACKOFF_SECONDS="0.5",
        MOLECULE_A2A_DRAIN_INTERVAL_S="0.5",
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    running.start()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    yield running
    running.kill()
    asyncio.run(execute(postgres, "DROP DATABASE outgoing WITH (FORCE)"))


@pytest.fixture
async def wire(calling_server: RunningServer) -> AsyncIterator[Wire]:
    async with wire_to(calling_server) as opened:
        yield opened


@pytest.fixture
async def org(calling_server: RunningServer, wire: Wire) -> Organization:
    return await found(wire, wire.party(calling_server.admin_token))


@pytest.fixture
async def other_org(calling_server: RunningServer, wire: Wire) -> Organization:
    return await found(wire, wire.party(calling_server.admin_token))


async def announce(agent: Agent, host: str) -> int:
    """The status of a registration at this host."""
    body = {"id": agent.id, "url": f"http://{host}", "delivery_mode": "push", "agent_card": {}}
    return (await agent.rest("POST", "/registry/register", body)).status_code


async def test_slow_names_of_one_organization_are_in_nobody_elses_way(
    names: NameServer, org: Organization, other_org: Organization
) -> None:
    """A message whose agent's name cannot be looked up for now waits, and counts as no miss."""
    async with fake_agent() as listening:
        sender, receiver = await org.hire(), await org.hire()
        await register(receiver, f"http://{FAST}:{listening.port}/")
        slow = [f"slow{number}.test" for number in range(LOOKUPS)]
        waiting = [asyncio.create_task(announce(sender, name)) for name in slow]

        async def asked() -> set[str]:
            return set(names.asked)

        await until(asked, set(slow).issubset)
        neighbour = await other_org.hire()
        assert await announce(neighbour, "127.0.0.1:9") == 200
        assert await announce(neighbour, f"{FAST}:{listening.port}") == 200
        assert await announce(sender, f"{FAST}:{listening.port}") == 429
        receipt = await send(sender, receiver)
        assert (receipt.status_code, receipt.json()["queued"]) == (202, True)
        assert not listening.received
        assert await asyncio.gather(*waiting) == [400] * LOOKUPS
        await listening.wait(1)
        path = f"/workspaces/{receiver.id}/a2a/queue/{receipt.json()['queue_id']}"

        async def status() -> str:
            told: str = (await sender.rest("GET", path)).json()["status"]
            return told

        await until(status, lambda told: told == "completed")


async def queued(sender: Agent, receiver: Agent, text: str = "hi", **headers: str) -> bool:
    """Send a message; whether it waits for the agent instead of being sent."""
    receipt = await send(sender, receiver, a_message(text), **headers)
    assert receipt.status_code in (200, 202), receipt.text
    return bool(receipt.json().get("queued"))


async def test_calls_to_an_agent_that_hangs_are_counted_when_their_senders_have_left(
    org: Organization, other_org: Organization
) -> None:
    """Beyond the budget a message waits in the queue, and arrives when a call has ended."""
    released = asyncio.Event()
    async with fake_agent(waits_for(released, echo)) as hanging, fake_agent() as well:
        sender, receiver, colleague = [await org.hire() for _ in range(3)]
        await register(receiver, hanging.url)
        await register(colleague, well.url)
        for _ in range(CALLS_TO_ONE):
            assert not await queued(sender, receiver, **IMPATIENT)
        assert await queued(sender, receiver, "late")
        assert hanging.connections == CALLS_TO_ONE
        assert not await queued(sender, colleague)
        neighbour, other = await other_org.hire(), await other_org.hire()
        await register(other, well.url)
        assert not await queued(neighbour, other)
        released.set()
        await hanging.wait(CALLS_TO_ONE + 1)
        assert hanging.received[-1].text == "late"
        assert not await queued(sender, receiver)


async def test_large_messages_to_agents_that_hang_are_bounded_in_bytes(
    org: Organization, other_org: Organization
) -> None:
    async with fake_agent(hangs) as hanging, fake_agent() as well:
        sender, receiver = await org.hire(), await org.hire()
        await register(receiver, hanging.url)
        for _ in range(2):
            assert not await queued(sender, receiver, "x" * 400_000, **IMPATIENT)
        assert await queued(sender, receiver, "x" * 400_000)
        assert not await queued(sender, receiver, "small", **IMPATIENT)
        neighbour, other = await other_org.hire(), await other_org.hire()
        await register(other, well.url)
        assert not await queued(neighbour, other, "x" * 400_000)


async def test_tasks_for_agents_that_hang_leave_room_for_other_organizations(
    calling_server: RunningServer, org: Organization, other_org: Organization
) -> None:
    """More tasks than the worker may deliver at once, to twice as many agents as it may call."""
    async with fake_agent(hangs) as hanging, fake_agent() as well:
        sender = await org.hire()
        for _ in range(6 * CALLS):
            receiver = await org.hire()
            await register(receiver, hanging.url)
            assert await delegate(sender, receiver)
        neighbour, other = await other_org.hire(), await other_org.hire()
        await register(other, well.url)
        await hanging.wait(CALLS)
        name = await delegate(neighbour, other)
        await well.wait(1)
        path = f"/workspaces/{neighbour.id}/delegations/{name}"

        async def status() -> str:
            told: str = (await neighbour.rest("GET", path)).json()["status"]
            return told

        assert await until(status, lambda told: told == "completed")
        # A claim takes up to eight messages before it looks again.
        assert hanging.connections < CALLS + 8


async def delegate(sender: Agent, receiver: Agent) -> str:
    """Hand over a task; its id."""
    body = {"target_id": receiver.id, "task": "work"}
    answer = await sender.rest("POST", f"/workspaces/{sender.id}/delegate", body)
    assert answer.status_code == 202, answer.text
    name: str = answer.json()["delegation_id"]
    return name


async def test_workers_and_edge_may_open_as_many_files_as_the_system_permits(
    calling_server: RunningServer,
) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    children = psutil.Process(calling_server.pid).children()
    edges = [child for child in children if child.name() == "envoy"]
    workers = calling_server.workers()
    assert (len(edges), len(workers)) == (1, 1)
    for each in (*edges, *workers):
        assert resource.prlimit(each.pid, resource.RLIMIT_NOFILE) == (hard, hard)
