"""Callers without a valid token: the budget of an address, and who is counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import grpc
import httpx
import pytest

from tests.conftest import execute, with_database
from tests.e2e.parties import Wire, found, wire_to
from tests.running import RunningServer
from tests.waiting import PATIENCE

CALLS = 20
ADDRESSES = ("127.0.0.66", "127.0.0.67")


@pytest.fixture(scope="module")
def strict_server(
    postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    asyncio.run(execute(postgres, f"CREATE DATABASE strangers TEMPLATE {template}"))
    running = RunningServer(
        with_database(postgres, "strangers"),
        tmp_path_factory.mktemp("strangers"),
        MOLECULE_STRANGER_CALLS_PER_MINUTE=str(CALLS),
    )
    running.start()
    yield running
    running.kill()
    asyncio.run(execute(postgres, "DROP DATABASE strangers WITH (FORCE)"))


@pytest.fixture
async def wire(strict_server: RunningServer) -> AsyncIterator[Wire]:
    async with wire_to(strict_server) as opened:
        yield opened


def caller_from(server: RunningServer, address: str) -> httpx.AsyncClient:
    """A client at an address of its own."""
    transport = httpx.AsyncHTTPTransport(local_address=address)
    return httpx.AsyncClient(base_url=server.url, transport=transport, timeout=PATIENCE)


async def test_an_address_that_tries_tokens_is_refused_and_its_neighbours_are_not(
    strict_server: RunningServer, wire: Wire
) -> None:
    """Whoever has called from that address with a good token goes on."""
    org = await found(wire, wire.party(strict_server.admin_token))
    agent = await org.hire()
    path = f"/workspaces/{agent.id}/inbox"
    async with (
        caller_from(strict_server, ADDRESSES[0]) as guesser,
        caller_from(strict_server, ADDRESSES[1]) as neighbour,
    ):
        assert (await guesser.get(path, headers=agent.headers)).status_code == 200
        statuses, last = [], None
        for number in range(CALLS + 10):
            last = await guesser.get(path, headers={"authorization": f"Bearer guess{number}"})
            statuses.append(last.status_code)
        assert statuses[:CALLS] == [401] * CALLS
        while last is None or last.status_code != 429:
            last = await guesser.get(path, headers={"authorization": "Bearer guess"})
        assert last.headers["retry-after"] == "3"
        assert (await guesser.get(path, headers=agent.headers)).status_code == 200
        known = await neighbour.get(path, headers={"authorization": "Bearer guess"})
        assert known.status_code == 401


async def test_calls_without_a_token_are_refused_before_they_reach_a_worker(
    strict_server: RunningServer, wire: Wire
) -> None:
    org = await found(wire, wire.party(strict_server.admin_token))
    agent = await org.hire()
    path = f"/workspaces/{agent.id}/inbox"
    async with caller_from(strict_server, ADDRESSES[1]) as stranger:
        answers = [await stranger.get(path) for _ in range(CALLS + 10)]
        assert [each.status_code for each in answers[:CALLS]] == [401] * CALLS
        refused = [each for each in answers if each.status_code == 429]
        assert refused
        assert refused[0].json() == {"error": "too many requests", "retry_after": 3}
        assert (await stranger.get("/health")).status_code == 200
        assert (await stranger.get(path, headers=agent.headers)).status_code == 200


async def test_an_authorization_header_without_a_word_is_none(strict_server: RunningServer) -> None:
    path = "/workspaces/00000000-0000-4000-8000-000000000000/inbox"
    async with caller_from(strict_server, "127.0.0.68") as stranger:
        headers = {"authorization": ""}
        statuses = [(await stranger.get(path, headers=headers)).status_code for _ in range(60)]
        assert statuses[:CALLS] == [401] * CALLS
        assert 429 in statuses


@pytest.mark.parametrize(
    "rpc",
    [
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/moleculeai.admin.v1.AdminService/GetHealth",
    ],
)
async def test_calls_that_ask_for_no_token_are_counted_whatever_they_show(
    wire: Wire, strict_server: RunningServer, rpc: str
) -> None:
    """Nobody looks the token up, so that any word would evade the budget of strangers."""
    call: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = wire.channel.stream_unary(rpc)
    codes = []
    for number in range(3 * CALLS):
        try:
            await call(iter([b""]), metadata=(("authorization", f"Bearer {number}"),))
            codes.append("OK")
        except grpc.aio.AioRpcError as error:
            codes.append(error.code().name)
    assert "RESOURCE_EXHAUSTED" not in codes[:CALLS]
    assert codes.count("RESOURCE_EXHAUSTED") >= CALLS
    # A probe over REST is not counted: it would take the installation down.
    assert strict_server.healthy()
