"""What an installation writes: a line for each call, one form of all lines, connections counted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import grpc
import httpx
import psutil
import pytest
from moleculeai.admin.v1 import admin_service_pb2 as admin
from prometheus_client.parser import text_string_to_metric_families

from molecule_grpc.server.process.host_mode import AUTO, host_mode
from tests.conftest import execute, with_database
from tests.connections import connected
from tests.e2e.parties import Organization, found, wire_to
from tests.e2e.test_fleet import whole
from tests.running import RunningServer
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.slow

Line = dict[str, Any]
MODES = ("envoy", "grpc")
ADMIN = "/moleculeai.admin.v1.AdminService"
WORKSPACES = "/moleculeai.workspace.v1.WorkspaceService"
# What `up` prints for people, on standard output.
PRINTED = ("Molecule gRPC is up", "  ", "Try this:", "migrated ", "stopping: ", "stopped. ")


@pytest.fixture(scope="module", params=MODES)
def server(
    request: pytest.FixtureRequest,
    postgres: str,
    template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningServer]:
    """A server in each mode that writes a line for every call. Do not kill this one."""
    name = f"logs_{uuid.uuid4().hex[:12]}"
    asyncio.run(execute(postgres, f"CREATE DATABASE {name} TEMPLATE {template}"))
    running = RunningServer(
        with_database(postgres, name),
        tmp_path_factory.mktemp(request.param),
        MOLECULE_HOST_MODE=request.param,
        MOLECULE_ACCESS_LOG="all",
        MOLECULE_INBOX_BEAT_SECONDS="0.5",
    )
    running.start()
    yield running
    running.kill()
    asyncio.run(execute(postgres, f"DROP DATABASE {name} WITH (FORCE)"))
    running.require_sound_scripts()


@pytest.fixture
async def org(server: RunningServer) -> AsyncIterator[Organization]:
    """An organisation of this test's own."""
    async with wire_to(server) as wire:
        yield await found(wire, wire.party(server.admin_token))


def lines(server: RunningServer) -> list[Line]:
    """All of the log but what is printed for people."""
    return [
        json.loads(line)
        for line in server.log.read_text().splitlines()
        if line and not line.startswith(PRINTED)
    ]


async def calls(server: RunningServer, client_id: str, number: int = 1) -> list[Line]:
    """The lines of the calls that a client has given this id."""

    async def look() -> list[Line]:
        return [line for line in lines(server) if line.get("client_id") == client_id]

    return await until(look, lambda found: len(found) >= number)


@contextlib.asynccontextmanager
async def rest(server: RunningServer, client_id: str) -> AsyncIterator[httpx.AsyncClient]:
    """Calls over REST, each with this id of the client's own."""
    headers = {"x-request-id": client_id, "authorization": f"Bearer {server.admin_token}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=PATIENCE) as opened:
        yield opened


async def test_a_rest_call_is_a_line(server: RunningServer) -> None:
    """With the id of the answer and the client's own, and nothing of the query or the token."""
    mine = uuid.uuid4().hex
    async with rest(server, mine) as http:
        answer = await http.post("/workspaces?secret=of-the-query", json={"name": "one"})
    (line,) = await calls(server, mine)
    assert answer.headers["x-request-id"] == line["request_id"] != mine
    assert line["bytes_out"] == len(answer.content)
    assert line["bytes_in"] == len(answer.request.content)
    assert {name: line[name] for name in ("event", "verb", "path", "rpc", "status", "code")} == {
        "event": "call",
        "verb": "POST",
        "path": "/workspaces",
        "rpc": f"{WORKSPACES}/CreateWorkspace",
        "status": 201,
        "code": "OK",
    }
    assert (line["host"], line["address"]) == (f"127.0.0.1:{server.port}", "127.0.0.1")
    assert isinstance(line["ms"], int)
    ready = [each["address"] for each in lines(server) if each["event"] == "worker ready"]
    assert line["process"] in [address.removeprefix("unix:") for address in ready]
    log = server.log.read_text()
    assert "of-the-query" not in log
    assert server.admin_token not in log


@pytest.mark.parametrize(
    ("verb", "path", "status", "code", "rpc"),
    [
        ("GET", "/workspaces/no-id", 400, "INVALID_ARGUMENT", f"{WORKSPACES}/GetWorkspace"),
        ("GET", f"/workspaces/{uuid.UUID(int=1)}", 404, "NOT_FOUND", f"{WORKSPACES}/GetWorkspace"),
        ("GET", "/nowhere", 404, None, None),
        ("PUT", "/workspaces", 405, None, None),
    ],
)
async def test_a_rest_call_that_fails_has_the_code_of_its_rpc(
    server: RunningServer, verb: str, path: str, status: int, code: str | None, rpc: str | None
) -> None:
    mine = uuid.uuid4().hex
    async with rest(server, mine) as http:
        assert (await http.request(verb, path)).status_code == status
    (line,) = await calls(server, mine)
    assert (line["status"], line["code"], line["rpc"] or None) == (status, code, rpc)


async def test_a_grpc_call_is_a_line(server: RunningServer) -> None:
    mine = uuid.uuid4().hex
    async with grpc.aio.insecure_channel(server.grpc_target) as channel:
        for method in ("GetHealth", "GetLiveness"):
            call: Any = channel.unary_unary(
                f"{ADMIN}/{method}", request_serializer=admin.GetHealthRequest.SerializeToString
            )
            metadata = (("x-request-id", mine),)
            with contextlib.suppress(grpc.aio.AioRpcError):
                await call(admin.GetHealthRequest(), timeout=PATIENCE, metadata=metadata)
    good, bad = await calls(server, mine, 2)
    assert (good["rpc"], good["status"], good["code"]) == (f"{ADMIN}/GetHealth", 200, "OK")
    assert (bad["rpc"], bad["status"], bad["code"]) == (
        f"{ADMIN}/GetLiveness",
        200,
        "UNAUTHENTICATED",
    )


async def test_a_stream_is_a_line_when_it_ends(server: RunningServer, org: Organization) -> None:
    mine = uuid.uuid4().hex
    agent = await org.hire()
    headers = agent.headers | {"x-request-id": mine}
    path = f"/workspaces/{agent.id}/inbox/stream"
    async with (
        httpx.AsyncClient(base_url=server.url, headers=headers, timeout=PATIENCE) as http,
        http.stream("GET", path) as answer,
    ):
        await anext(answer.aiter_bytes())
        assert not [line for line in lines(server) if line.get("client_id") == mine]
    (line,) = await calls(server, mine)
    assert (line["path"], line["status"]) == (path, 200)
    assert line["bytes_out"] > 0


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b"a\tb", "ab"),
        ("caf\u00e9-{}".encode(), "caf-{}"),
        (b'"quoted" \\ {}', '"quoted" \\ {}'),
        (b"x" * 5000, "x" * 128),
        (b"\xff\xfe", None),
    ],
)
async def test_a_clients_id_is_cut_and_cleaned(
    server: RunningServer, sent: bytes, kept: str | None
) -> None:
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as http:
        answer = await http.get("/health", headers={b"x-request-id": sent})
    ours = answer.headers["x-request-id"]

    async def look() -> list[Line]:
        return [line for line in lines(server) if line.get("request_id") == ours]

    (line,) = await until(look, bool)
    assert line["client_id"] == kept


async def test_a_client_cannot_write_a_line_of_its_own(server: RunningServer) -> None:
    """A control character is refused, and a forged header is not believed."""
    forged = b'{"event": "forged"}'
    head = b"GET /health HTTP/1.1\r\nhost: here\r\nconnection: close\r\n"
    for header in (b"x-request-id: a\x01" + forged, b"x-client-trace-id: " + forged):
        async with connected(server.port) as (reader, writer):
            writer.write(head + header + b"\r\n\r\n")
            status = (await reader.read()).split(b" ")[1]
        assert status == (b"400" if b"\x01" in header else b"200")
    mine = uuid.uuid4().hex
    async with rest(server, mine) as http:
        await http.get("/health")
    await calls(server, mine)
    assert "forged" not in server.log.read_text()


async def test_both_ids_are_on_the_workers_own_lines(server: RunningServer, postgres: str) -> None:
    """A call that fails for want of the database is a line of a worker's, too."""
    mine = uuid.uuid4().hex
    name = urlsplit(server.database_url).path[1:]
    admitting = f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS"
    answered = set()
    async with rest(server, mine) as http:

        async def worker_lines() -> list[Line]:
            answered.add((await http.get("/workspaces")).headers["x-request-id"])
            found = [line for line in lines(server) if line.get("client_id") == mine]
            return [line for line in found if line["event"] != "call"]

        await execute(postgres, f"{admitting} false")
        try:
            await _end_sessions(postgres, name)
            found = await until(worker_lines, bool)
        finally:
            await execute(postgres, f"{admitting} true")
    assert found[0]["request_id"] in answered
    assert found[0]["event"] in ("call failed", "call unavailable")
    await until(_healthy(server), bool)


async def _end_sessions(dsn: str, name: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name
        )
    finally:
        await connection.close()


def _healthy(server: RunningServer) -> Callable[[], Any]:
    async def look() -> bool:
        return await asyncio.to_thread(server.healthy)

    return look


@pytest.mark.parametrize("mode", MODES)
async def test_the_share_is_drawn(own_server: Callable[..., RunningServer], mode: str) -> None:
    """Of 400 calls half are 200; below 120 or above 280 is one run in 10^15."""
    server = own_server(MOLECULE_HOST_MODE=mode, MOLECULE_ACCESS_LOG="0.5")
    mine = uuid.uuid4().hex
    async with rest(server, mine) as http:
        for _ in range(400):
            await http.get("/healthz")
    assert server.stop() == 0
    drawn = [line for line in lines(server) if line.get("client_id") == mine]
    assert 120 < len(drawn) < 280


@pytest.mark.parametrize("mode", MODES)
async def test_every_line_has_the_same_form(
    own_server: Callable[..., RunningServer], mode: str
) -> None:
    """From the start to the stop, a killed process and a restart between; off writes no call."""
    server = own_server(MOLECULE_HOST_MODE=mode, WORKERS="2", LOG_LEVEL="debug")
    await whole(server, processes=2)
    envoy = next(
        child for child in psutil.Process(server.pid).children() if child.name() == "envoy"
    )
    envoy.kill()
    await until(_logged(server, "a process died, restarting"), bool)
    await until(_healthy(server), bool)
    os.kill(server.pid, signal.SIGHUP)
    await until(_logged(server, "all processes were replaced"), bool)
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as http:
        assert (await http.get("/health")).status_code == 200
    assert server.stop() == 0
    found = lines(server)
    for line in found:
        assert {"event", "level", "timestamp"} <= set(line), line
        assert line["timestamp"].endswith("Z"), line
        assert line["level"] in ("debug", "info", "warning", "error", "critical"), line
    assert any("pid" in line and line["process"] == "edge" for line in found)
    assert all(line["event"] != "call" for line in found)


def _logged(server: RunningServer, event: str) -> Callable[[], Any]:
    async def look() -> bool:
        return event in server.log.read_text()

    return look


# Connections.


async def measured(server: RunningServer, name: str) -> dict[str, float]:
    """A metric by its label `process`; by the empty text without one."""
    async with httpx.AsyncClient(timeout=PATIENCE) as http:
        text = (await http.get(f"{server.url}/metrics")).text
    return {
        sample.labels.get("process", ""): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


@contextlib.asynccontextmanager
async def idle_clients(server: RunningServer, number: int) -> AsyncIterator[None]:
    """Clients that are connected, and call nothing."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(number):
            await stack.enter_async_context(connected(server.port))
        yield


CONNECTIONS = "molecule_edge_connections"


async def test_connections_are_counted_by_process(
    own_server: Callable[..., RunningServer],
) -> None:
    """A process that was killed, or replaced, leaves no count behind."""
    server = own_server(MOLECULE_HOST_MODE="envoy", WORKERS="2")
    await whole(server, processes=2)

    async def look() -> dict[str, float]:
        try:
            return await measured(server, CONNECTIONS)
        except httpx.TransportError:
            return {}  # Asked of the process that was killed, or replaced.

    def are(number: int) -> Callable[[dict[str, float]], bool]:
        # And the one that asks.
        return lambda found: len(found) == 2 and sum(found.values()) == number + 1

    await until(look, are(0))
    async with idle_clients(server, 20):
        counts = await until(look, are(20))
        assert set(counts) == {"worker 0", "worker 1"}
        victim = next(
            child for child in psutil.Process(server.pid).children() if child.name() == "envoy"
        )
        held = len([each for each in victim.net_connections() if each.status == "ESTABLISHED"])
        victim.kill()
        # Its successor takes a second or more to load.
        await until(look, lambda found: len(found) == 1)
        await until(look, are(20 - held))
        os.kill(server.pid, signal.SIGHUP)
        await until(_logged(server, "all processes were replaced"), bool)
        await until(look, are(0))


async def test_connections_of_the_edge_are_counted(
    own_server: Callable[..., RunningServer],
) -> None:
    server = own_server(MOLECULE_HOST_MODE="grpc")

    async def look() -> dict[str, float]:
        return await measured(server, CONNECTIONS)

    async with idle_clients(server, 5):
        assert await until(look, lambda found: found == {"edge": 6.0})
    await until(look, lambda found: found == {"edge": 1.0})


def test_this_machine_can_run_both_hosts() -> None:
    """Else the tests of this module would say nothing of one of them."""
    assert host_mode(AUTO).module is not None
