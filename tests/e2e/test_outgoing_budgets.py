"""What the platform asks of other machines for one organisation is not in another's way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.conftest import execute, with_database
from tests.e2e.calling import register, send
from tests.e2e.parties import Agent, Organization, Wire, found, wire_to
from tests.fake_agent import fake_agent
from tests.name_server import NameServer, name_server
from tests.running import RunningServer
from tests.waiting import until

LOOKUPS = 6
FAST = "agent.test"


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
        MOLECULE_A2A_BACKOFF_SECONDS="0.5",
    )
    running.start()
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
