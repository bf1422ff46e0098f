"""Both hosts answer every request alike: workers behind Envoy, and the worker inside Envoy."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from unittest.mock import ANY

import asyncpg
import httpx
import pytest

from tests.conftest import execute, with_database
from tests.e2e import wire_cases
from tests.e2e.http2_frames import Frame, http2_call
from tests.e2e.raw_http import Asked, Heard, RawClient
from tests.e2e.wire_cases import BODY, CODE, GRPC, NOBODY, WORKSPACES, Case, frame
from tests.ports import free_port
from tests.running import ADMIN_TOKEN, RunningServer
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.slow

DETAILS = "grpc-status-details-bin"
METRICS_TOKEN = "metrics-token-of-this-module"
OPERATOR = {"authorization": f"Bearer {ADMIN_TOKEN}"}
# A long poll or a unary call that waits for a lock ends by then.
CALL_SECONDS = 8.0
# How a stream ends whose answer ended before its request.
GONE = Frame("RST_STREAM", 4)


@dataclass(frozen=True)
class Host:
    """A server in one mode; both serve one database."""

    mode: str
    server: RunningServer
    operator_port: int
    raw: RawClient


@dataclass(frozen=True)
class Workspace:
    """Who calls, on either host."""

    id: str
    headers: dict[str, str]


@pytest.fixture(scope="module")
def shared_database(postgres: str, template: str) -> Iterator[str]:
    """One database for both servers."""
    name = f"hosts_{uuid.uuid4().hex[:12]}"
    asyncio.run(execute(postgres, f"CREATE DATABASE {name} TEMPLATE {template}"))
    yield with_database(postgres, name)
    asyncio.run(execute(postgres, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="module")
async def hosts(
    shared_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, Host]]:
    """A server in each mode."""
    running: dict[str, Host] = {}
    for mode in ("grpc", "envoy"):
        operator_port = free_port()
        server = RunningServer(
            shared_database,
            tmp_path_factory.mktemp(mode),
            MOLECULE_HOST_MODE=mode,
            MOLECULE_OPERATOR_PORT=str(operator_port),
            MOLECULE_PUBLIC_METRICS="0",
            MOLECULE_METRICS_TOKEN=METRICS_TOKEN,
            MOLECULE_INBOX_BEAT_SECONDS="1",
            MOLECULE_CALL_SECONDS=str(CALL_SECONDS),
            MOLECULE_STREAM_WRITE_SECONDS="1",
        )
        await asyncio.to_thread(server.start)
        running[mode] = Host(mode, server, operator_port, RawClient(server.port))
    yield running
    for host in running.values():
        await host.raw.close()
        host.server.kill()


@pytest.fixture(params=["grpc", "envoy"])
def host(hosts: dict[str, Host], request: pytest.FixtureRequest) -> Host:
    """Each host in turn."""
    return hosts[request.param]


def client(host: Host, headers: dict[str, str]) -> httpx.AsyncClient:
    """Calls one host over REST."""
    return httpx.AsyncClient(base_url=host.server.url, headers=headers, timeout=PATIENCE)


@pytest.fixture(scope="module")
async def agent(hosts: dict[str, Host]) -> Workspace:
    """A workspace that both hosts know."""
    body = {"name": f"agent {uuid.uuid4().hex[:8]}", "external": True}
    async with client(hosts["grpc"], OPERATOR) as http:
        made = (await http.post("/workspaces", json=body)).json()
    headers = {"authorization": f"Bearer {made['connection']['auth_token']}"}
    async with client(hosts["grpc"], headers) as http:
        await http.post(
            "/registry/register", json={"id": made["id"], "agent_card": {"name": "agent"}}
        )
    return Workspace(made["id"], headers)


async def test_same_answers(hosts: dict[str, Host], agent: Workspace) -> None:
    """One test for all requests: spread over pytest's processes, each would start both servers."""
    different: dict[str, tuple[object, object]] = {}
    for name, case in wire_cases.cases(agent.id).items():
        if not case.alike:
            continue
        behind = await hosts["grpc"].raw.ask(case.asked, agent.headers)
        inside = await hosts["envoy"].raw.ask(case.asked, agent.headers)
        # What gRPC's library refuses by itself has no details.
        if DETAILS not in behind.headers:
            inside.headers.pop(DETAILS, None)
        if shown(inside, case) != shown(behind, case):
            different[name] = shown(inside, case), shown(behind, case)
    assert different == {}


def shown(heard: Heard, case: Case) -> object:
    """What is compared of an answer."""
    if case.alike == BODY:
        return heard.status, heard.body
    if case.alike == CODE:
        return heard.status, heard.error, heard.grpc_status, heard.headers.get("content-type")
    return heard


async def test_better_answers(hosts: dict[str, Host], agent: Workspace) -> None:
    """Where the hosts differ, for the reason that the case names."""
    better = {name: case for name, case in wire_cases.cases(agent.id).items() if not case.alike}
    heard = {
        name: await hosts["envoy"].raw.ask(better[name].asked, agent.headers) for name in better
    }
    told = {name: (each.status, each.grpc_status) for name, each in heard.items()}
    assert told == {name: (200, case.code) for name, case in better.items()}, heard


@pytest.fixture
async def locked(shared_database: str) -> AsyncIterator[None]:
    """Nobody reads or writes workspaces, inside."""
    holder = await asyncpg.connect(shared_database)
    async with holder.transaction():
        await holder.execute("LOCK TABLE workspaces")
        yield
    await holder.close()


@pytest.mark.usefixtures("locked")
async def test_call_that_takes_too_long_is_ended(host: Host) -> None:
    """Where its method may not last, with UNAVAILABLE, or 504 over REST."""
    path, get = f"/workspaces/{uuid.uuid4()}", frame(wire_cases.get(str(uuid.uuid4())))
    rest, native = await asyncio.gather(
        host.raw.ask(Asked(path, verb="GET"), OPERATOR),
        host.raw.ask(Asked(f"{WORKSPACES}GetWorkspace", (get,), GRPC), OPERATOR),
    )
    assert (rest.status, rest.body.strip()) == (504, b'{"error":"the call took too long"}')
    assert (native.status, native.grpc_status) == (200, "14")


async def test_limit_that_is_none_harms_no_other_call(host: Host, agent: Workspace) -> None:
    """Calls of all clients share a connection between edge and worker."""
    get = frame(wire_cases.get(agent.id))
    limits = ("soon", *(f"{seconds}S" for seconds in range(100, 120)))
    ended = []
    for limit in limits:
        headers = (*GRPC, ("grpc-timeout", limit))
        heard = await host.raw.ask(
            Asked(f"{WORKSPACES}GetWorkspace", (get,), headers), agent.headers
        )
        ended.append(heard.grpc_status)
    assert ended == ["13", *["0"] * (len(limits) - 1)]


async def test_binary_header_that_cannot_be_read_harms_no_other_call(
    host: Host, agent: Workspace
) -> None:
    """No worker reads one, so none reaches the connection that all clients share."""
    get = frame(wire_cases.get(agent.id))
    ended = []
    for value in ("%%%", "AAEC", "AQID"):
        headers = (*GRPC, ("x-notes-bin", value))
        asked = Asked(f"{WORKSPACES}GetWorkspace", (get,), headers)
        ended.append((await host.raw.ask(asked, agent.headers)).grpc_status)
    assert ended == ["0", "0", "0"]


async def test_operator_has_a_port(host: Host) -> None:
    async with httpx.AsyncClient(headers=OPERATOR, timeout=PATIENCE) as http:
        here = await http.get(f"http://127.0.0.1:{host.operator_port}/admin/liveness")
        public = await http.get(f"{host.server.url}/admin/liveness")
        metrics = await http.get(f"http://127.0.0.1:{host.operator_port}/metrics")
    assert (here.status_code, public.status_code, metrics.status_code) == (200, 404, 200)
    assert public.json() == {"error": "not found"}
    assert here.json()


async def test_metrics_are_shown_to_whoever_has_the_token(host: Host) -> None:
    async with httpx.AsyncClient(base_url=host.server.url, timeout=PATIENCE) as http:
        without = await http.get("/metrics")
        with_it = await http.get(
            "/metrics",
            headers={
                "authorization": f"Bearer {METRICS_TOKEN}",
                "accept": "application/openmetrics-text",
            },
        )
    assert without.status_code == 401
    assert without.json() == {"error": "missing or wrong metrics token"}
    assert with_it.headers["content-type"].startswith("application/openmetrics-text")
    assert with_it.text.rstrip().endswith("# EOF")


async def test_request_id(hosts: dict[str, Host]) -> None:
    """Whoever sends one is answered with ours, as the others are."""
    given = {}
    for mode, host in hosts.items():
        async with httpx.AsyncClient(base_url=host.server.url, timeout=PATIENCE) as http:
            mine = await http.get("/health", headers={"x-request-id": "mine"})
            none = await http.get("/health")
        given[mode] = [uuid.UUID(each.headers["x-request-id"]).version for each in (mine, none)]
    assert given == {"grpc": [4, 4], "envoy": [4, 4]}


async def test_stream_that_ends_with_the_clients_patience(host: Host, agent: Workspace) -> None:
    """Lines of JSON, and server-sent events, as they come."""
    async with client(host, agent.headers) as http:
        path = f"/workspaces/{agent.id}/inbox/stream"
        for accept, kind in {
            "text/event-stream": "text/event-stream",
            "application/x-ndjson": "application/json",
        }.items():
            async with http.stream("GET", path, headers={"accept": accept}) as answer:
                assert answer.status_code == 200
                assert answer.headers["content-type"].startswith(kind)
                async for line in answer.aiter_lines():
                    if line:
                        break
                assert "{" in line


async def test_refusal_of_a_call_that_is_still_sending_reads_as_one(host: Host) -> None:
    """Gone without an error, after the status: else clients take the reset for the answer."""
    path, body = f"{wire_cases.UPLOADS}StageUploads", wire_cases.begin(NOBODY)
    async with (
        asyncio.timeout(PATIENCE),
        http2_call(host.server.port, path, dict(GRPC), body) as call,
    ):
        assert await call.rest() == [Frame("HEADERS", ANY, ends=True), GONE]


async def test_slow_consumer_reads_all_that_was_sent_and_the_status(
    host: Host, agent: Workspace
) -> None:
    """After the client reads again, the answer comes as fast as the window permits."""
    body = {"method": "message/send", "params": {"message": {"parts": [{"text": "x" * 200_000}]}}}
    async with client(host, OPERATOR) as http:
        for _ in range(6):
            sent = await http.post(f"/workspaces/{agent.id}/a2a", json=body)
            assert sent.status_code == 200, sent.text
    path, before = f"{wire_cases.DELEGATIONS}SubscribeInbox", ended_streams(host)
    headers = {**dict(GRPC), **agent.headers}
    async with http2_call(host.server.port, path, headers, wire_cases.hello(agent.id)) as call:

        async def ended() -> bool:
            return ended_streams(host) > before

        await until(ended, bool)
        async with asyncio.timeout(PATIENCE):
            *_, last, reset = await call.rest()
    assert (last.kind, last.ends, reset) == ("HEADERS", True, GONE)


def ended_streams(host: Host) -> int:
    """How many streams the server has ended because their clients did not read."""
    return host.server.log.read_text().count('"event": "slow consumer"')
