"""Processor time as a budget: heavy calls of one organisation do not delay another's."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.conftest import execute, with_database
from tests.e2e.parties import Agent, Wire, found, wire_to
from tests.running import RunningServer
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.slow

NAME = "processor milliseconds a second"
LIMIT = 20
ROWS = 500
CALLERS = 20


@pytest.fixture(scope="module")
def thrifty_server(
    postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server on which an organisation may use 20 ms of each second while others call."""
    asyncio.run(execute(postgres, f"CREATE DATABASE processor_time TEMPLATE {template}"))
    running = RunningServer(
        with_database(postgres, "processor_time"),
        tmp_path_factory.mktemp("thrifty"),
        MOLECULE_PROCESSOR_MS_PER_ORGANIZATION=str(LIMIT),
        MOLECULE_PROCESSOR_PATIENCE_SECONDS="0.2",
    )
    running.start()
    yield running
    running.kill()
    asyncio.run(execute(postgres, "DROP DATABASE processor_time WITH (FORCE)"))


@pytest.fixture
async def thrifty_wire(thrifty_server: RunningServer) -> AsyncIterator[Wire]:
    async with wire_to(thrifty_server) as opened:
        yield opened


async def with_long_record(agent: Agent) -> None:
    """Give an agent rows enough for a page that is costly to make."""
    row = {"activity_type": "agent_log", "summary": "x" * 200}
    for _ in range(ROWS // 50):
        await asyncio.gather(
            *(agent.rest("POST", f"/workspaces/{agent.id}/activity", row) for _ in range(50))
        )


async def page(agent: Agent) -> httpx.Response:
    return await agent.rest("GET", f"/workspaces/{agent.id}/activity", limit=ROWS)


@contextlib.asynccontextmanager
async def calling(agent: Agent, statuses: Counter[int]) -> AsyncIterator[None]:
    """An agent that makes four calls at a time, one after the other, while inside."""

    async def calls() -> None:
        while True:
            answer = await agent.rest("GET", f"/workspaces/{agent.id}/activity")
            statuses[answer.status_code] += 1

    tasks = [asyncio.create_task(calls()) for _ in range(4)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_heavy_calls_wait_while_another_organization_calls_and_not_when_alone(
    thrifty_server: RunningServer, thrifty_wire: Wire
) -> None:
    """Beyond its patience a heavy organisation reads 429 with QuotaFailure; a light one never."""
    operator = thrifty_wire.party(thrifty_server.admin_token)
    org, other = await found(thrifty_wire, operator), await found(thrifty_wire, operator)
    heavy, light = await org.hire(), await other.hire()

    async def pages() -> Counter[int]:
        answers = await asyncio.gather(*(page(heavy) for _ in range(CALLERS)))
        refusals.extend(answer for answer in answers if answer.status_code != 200)
        return Counter(answer.status_code for answer in answers)

    refusals: list[httpx.Response] = []
    await with_long_record(heavy)
    # Nobody else has called for a while: no limit, however much is used.
    alone = await until(pages, lambda seen: seen == {200: CALLERS})
    assert alone == {200: CALLERS}
    refusals.clear()
    light_statuses: Counter[int] = Counter()
    async with calling(light, light_statuses):
        beside = await until(pages, lambda seen: seen[429] > 0)
    assert set(beside) <= {200, 429}
    assert set(light_statuses) == {200}
    assert refusals[0].headers["retry-after"] == "1"
    assert "too much processor time" in refusals[0].json()["error"]
    assert await until(pages, lambda seen: seen == {200: CALLERS}) == {200: CALLERS}
    uses = (await heavy.rest("GET", "/quota")).json()["quotas"]
    [use] = [each for each in uses if each["name"] == NAME]
    assert (use["of"], use["limit"], use["at_once"]) == ("organization", LIMIT, True)
    assert use["used"] > 0


async def test_waits_and_refusals_are_counted(
    thrifty_server: RunningServer, thrifty_wire: Wire
) -> None:
    operator = thrifty_wire.party(thrifty_server.admin_token)
    org, other = await found(thrifty_wire, operator), await found(thrifty_wire, operator)
    heavy, light = await org.hire(), await other.hire()
    await with_long_record(heavy)

    async def metrics() -> str:
        return (await operator.rest("GET", "/metrics")).text

    async with calling(light, Counter()), asyncio.timeout(PATIENCE):
        while True:
            answers = await asyncio.gather(*(page(heavy) for _ in range(CALLERS)))
            if any(answer.status_code == 429 for answer in answers):
                break
    refused = f'molecule_grpc_budget_refused_total{{budget="{NAME}",of="organization"}}'
    text = await until(metrics, lambda text: refused in text)
    [line] = [each for each in text.splitlines() if each.startswith("molecule_grpc_processor_wait")]
    assert float(line.split()[1]) > 0
