"""An installation from its first start to its end, with failures in between."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import httpx
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from molecule_grpc.db.embedded.server import EmbeddedPostgres
from tests.conftest import execute
from tests.e2e.parties import Agent, Organization, found, wire_to
from tests.ports import free_port
from tests.running import RunningServer
from tests.waiting import PATIENCE
from tools.descriptors import Contract

pytestmark = pytest.mark.slow

Start = Callable[..., RunningServer]
SERVICES = sorted({rpc.service for rpc in Contract.load().rpcs()})
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
LABELS = {"method", "code", "le", "source", "reason", "task", "kind", "name", "outcome", "state"}
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-|[A-Za-z0-9_-]{40,}")


# What a load balancer and a curious client see.


async def test_health_is_told_for_every_service(server: RunningServer) -> None:
    async with grpc.aio.insecure_channel(server.grpc_target) as channel:
        told = {name: await health_of(channel, name) for name in ("", *SERVICES)}
    assert told == dict.fromkeys(("", *SERVICES), SERVING)


async def test_health_of_an_unknown_service_is_not_found(server: RunningServer) -> None:
    async with grpc.aio.insecure_channel(server.grpc_target) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health_of(channel, "no.such.Service")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_reflection_shows_every_service_and_its_files(server: RunningServer) -> None:
    """grpcurl works without our protos."""
    request = reflection_pb2.ServerReflectionRequest
    async with grpc.aio.insecure_channel(server.grpc_target) as channel:
        asynchronous: Any = channel  # The stubs of this package know no asyncio.
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(asynchronous)
        asked = [request(list_services=""), *(request(file_containing_symbol=s) for s in SERVICES)]
        answers = [answer async for answer in stub.ServerReflectionInfo(iter(asked))]
    listed = {service.name for service in answers[0].list_services_response.service}
    assert set(SERVICES) <= listed
    assert all(a.file_descriptor_response.file_descriptor_proto for a in answers[1:])


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs Linux and two cores",
)
@pytest.mark.grpc_host(reason="inside Envoy no poller of gRPC's runs")
async def test_the_poller_of_a_worker_runs_on_one_core(own_server: Start) -> None:
    """The loop's; the loop itself and all others are free."""
    (worker,) = [process.pid for process in own_server().workers()]
    async with asyncio.timeout(PATIENCE):
        while len(bound := [task for task in tasks(worker) if len(cores(task)) == 1]) != 1:
            await asyncio.sleep(0.02)
    assert worker not in bound


async def test_metrics_count_calls_and_name_nobody(
    server: RunningServer, org: Organization
) -> None:
    """Labels are RPCs and codes, never ids or tokens: their number stays bounded."""
    path = "/moleculeai.workspace.v1.WorkspaceService/GetWorkspace"
    agent = await org.hire()
    before = await counted(server, method=path, code="OK")
    await agent.rest("GET", f"/workspaces/{agent.id}")
    # Counts are published once a second.
    await until(lambda: counted(server, method=path, code="OK"), before + 1)
    samples = [sample for family in await metrics(server) for sample in family.samples]
    assert [s for s in samples if any(ID.search(value) for value in s.labels.values())] == []


# What it survives.


@pytest.fixture
def postgres_to_stop(tmp_path: Path) -> Iterator[EmbeddedPostgres]:
    database = EmbeddedPostgres(tmp_path / "postgres", {"fsync": "off"})
    database.start()
    yield database
    database.stop()


async def test_without_its_database_it_says_so_and_comes_back_with_it(
    postgres_to_stop: EmbeddedPostgres, tmp_path: Path
) -> None:
    """503 and NOT_SERVING, never a 401 that would make agents give up."""
    server = RunningServer(
        postgres_to_stop.dsn, tmp_path / "server", MOLECULE_TOKEN_CACHE_SECONDS="0.01"
    )
    server.start()
    try:
        async with wire_to(server) as wire:
            org = await found(wire, wire.party(server.admin_token))
            agent = await org.hire()
            postgres_to_stop.stop()
            await until(lambda: serving(server), NOT_SERVING)
            for _ in range(30):  # longer than the shortest pause of a background task
                refused = await agent.rest("GET", f"/workspaces/{agent.id}")
                assert refused.status_code == 503
                assert isinstance(refused.json()["error"], str)
                await wire.http.get("/health")
            postgres_to_stop.start()
            await until(lambda: serving(server), SERVING)
            answer = await agent.rest("GET", f"/workspaces/{agent.id}")
            assert answer.status_code == 200
        said = server.log.read_text()
        for line in ("the database is away", "the database is back"):
            assert said.count(f'"event": "{line}"') == 1
        assert "Traceback" not in said
    finally:
        assert server.stop() == 0


async def test_workers_that_die_are_replaced(own_server: Start) -> None:
    """One of two workers costs nothing but its own calls; the open streams it had are forgotten."""
    server = own_server(WORKERS="2")
    async with wire_to(server) as wire:
        org = await found(wire, wire.party(server.admin_token))
        agent = await org.hire()
        async with streaming(agent):
            await until(lambda: gauge(server, "molecule_inbox_open_streams"), 1.0)
            first = server.workers()
            assert len(first) == 2
            for worker in first:
                worker.kill()
                await until(lambda: count_new(server, first), first.index(worker) + 1)
                await until(lambda: reachable(server), True)
        await until(lambda: gauge(server, "molecule_inbox_open_streams"), 0.0)
        await until(lambda: status_of(agent), 200)


async def test_an_edge_that_dies_is_replaced(own_server: Start) -> None:
    server = own_server()
    [edge] = children_named(server, "envoy")
    edge.kill()
    edge.wait()
    await until(lambda: reachable(server), True)
    assert children_named(server, "envoy") != [edge]


@pytest.mark.clock
async def test_a_revocation_ends_streams_on_every_worker(own_server: Start) -> None:
    """W14: within 5 s, whichever worker holds the stream and whichever hears the call."""
    server = own_server(WORKERS="2")
    async with wire_to(server) as wire:
        org = await found(wire, wire.party(server.admin_token))
        agent = await org.hire()
        ends = [asyncio.create_task(end_of_stream(agent)) for _ in range(6)]
        await until(lambda: gauge(server, "molecule_inbox_open_streams"), 6.0)
        [token] = (await agent.rest("GET", f"/workspaces/{agent.id}/tokens")).json()["tokens"]
        await org.rest("DELETE", f"/workspaces/{agent.id}/tokens/{token['id']}")
        async with asyncio.timeout(5):
            codes = await asyncio.gather(*ends)
    assert set(codes) == {grpc.StatusCode.UNAUTHENTICATED}


# How it ends.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_call_in_flight_finishes_before_the_end(
    own_server: Start, number: signal.Signals
) -> None:
    """And then nothing is left behind: no process, no port."""
    server = own_server(MOLECULE_DRAIN_SECONDS="10")
    async with wire_to(server) as wire:
        org = await found(wire, wire.party(server.admin_token))
        agent = await org.hire()
        children = psutil.Process(server.pid).children(recursive=True)
        pulling = asyncio.create_task(
            agent.rest("GET", f"/workspaces/{agent.id}/inbox", wait_seconds=4)
        )
        await until(lambda: in_flight(server), True)
        os.kill(server.pid, number)
        pulled = await pulling
    assert (pulled.status_code, pulled.json()["items"]) == (200, [])
    assert await asyncio.to_thread(server.stop) == 0
    assert not any(child.is_running() for child in children)
    assert not await reachable(server)


async def test_a_power_cut_leaves_no_process_behind(own_server: Start) -> None:
    """And the next start finds everything as it was committed."""
    server = own_server()
    async with wire_to(server) as wire:
        org = await found(wire, wire.party(server.admin_token))
        agent = await org.hire()
    children = psutil.Process(server.pid).children(recursive=True)
    assert {"envoy"} <= {child.name() for child in children}
    server.kill()
    _, alive = await asyncio.to_thread(psutil.wait_procs, children, 10)
    assert alive == []
    await asyncio.to_thread(server.start)
    async with wire_to(server) as wire:
        answer = await wire.party(agent.token).rest("GET", f"/workspaces/{agent.id}")
    assert answer.status_code == 200


# How it begins.


def test_the_first_start_shows_a_token_once_and_the_second_is_quick(tmp_path: Path) -> None:
    """With a database of its own: the token is 0600, lasts, and opens everything."""
    server = RunningServer("", tmp_path / "data", entry=["env"], ADMIN_TOKEN="")
    server.start()
    try:
        [token] = re.findall(r"admin token \(shown once\)\s+(\S{43})\s", greeting(server))
        file = server.data_dir / "admin_token"
        assert file.read_text().strip() == token
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert list_workspaces(server, token).status_code == 200
        assert server.stop() == 0

        server.log.write_text("")
        server.start()
        assert seconds_spent(server) < 10
        assert token not in greeting(server)
        assert list_workspaces(server, token).status_code == 200
    finally:
        server.stop()


def test_two_installations_run_side_by_side(server: RunningServer, own_server: Start) -> None:
    other = own_server(ADMIN_TOKEN="another-token")
    assert list_workspaces(server, "another-token").status_code == 401
    assert list_workspaces(other, "another-token").status_code == 200


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"MOLECULE_ENV": "production", "MOLECULE_OPEN_REGISTRATION": "1"},
            "MOLECULE_OPEN_REGISTRATION is refused when MOLECULE_ENV=production",
        ),
        (
            {"MOLECULE_ENV": "development", "MOLECULE_HOST": "0.0.0.0"},
            "MOLECULE_HOST=0.0.0.0 is refused when MOLECULE_ENV=development",
        ),
        (
            {"MOLECULE_ENV": "production", "ADMIN_TOKEN": "a"},
            "ADMIN_TOKEN can be guessed",
        ),
        ({"MOLECULE_DRAIN_SECONDS": "soon"}, "MOLECULE_DRAIN_SECONDS='soon' cannot be used"),
        ({"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}, "connect"),
    ],
)
def test_a_start_that_cannot_be_is_refused_in_one_sentence(
    settings: dict[str, str], said: str, database_url: str, tmp_path: Path
) -> None:
    code, told = refused_start(tmp_path, **{"DATABASE_URL": database_url, **settings})
    assert code != 0
    assert said in told
    assert "Traceback" not in told


async def test_a_newer_schema_is_left_alone(database_url: str, tmp_path: Path) -> None:
    """An old program must not work on what it does not know."""
    await execute(database_url, "INSERT INTO schema_migrations VALUES (9999, 'future', 'x')")
    code, told = await asyncio.to_thread(refused_start, tmp_path, DATABASE_URL=database_url)
    assert code != 0
    assert "newer than this program's" in told
    assert "Traceback" not in told


def test_a_port_that_is_taken_is_said(
    server: RunningServer, database_url: str, tmp_path: Path
) -> None:
    code, told = refused_start(tmp_path, DATABASE_URL=database_url, PORT=str(server.port))
    assert code != 0
    assert str(server.port) in told
    assert "Traceback" not in told


def test_an_unknown_setting_is_said_and_the_server_starts(own_server: Start) -> None:
    server = own_server(MOLECULE_DRAIN_SECOND="1")
    assert "MOLECULE_DRAIN_SECOND is not a setting" in server.log.read_text()


# Helpers.


async def health_of(channel: grpc.aio.Channel, service: str) -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE)
    return int(answer.status)


async def serving(server: RunningServer) -> int:
    """The health that a client is told, by the server or by the edge in its place."""
    async with grpc.aio.insecure_channel(server.grpc_target) as channel:
        try:
            return await health_of(channel, "")
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return int(NOT_SERVING)


async def until(look: Callable[[], Any], wanted: object, timeout: float = PATIENCE) -> None:
    """Look until this is seen."""
    seen: object = None
    try:
        async with asyncio.timeout(timeout):
            while (seen := await look()) != wanted:
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{seen!r} has not become {wanted!r}") from None


async def metrics(server: RunningServer) -> list[Any]:
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as http:
        answer = await http.get("/metrics")
    assert answer.status_code == 200
    return list(text_string_to_metric_families(answer.text))


async def counted(server: RunningServer, **labels: str) -> float:
    return sum(
        float(sample.value)
        for family in await metrics(server)
        for sample in family.samples
        if sample.name == "molecule_grpc_requests_total" and sample.labels == labels
    )


async def gauge(server: RunningServer, name: str) -> float:
    return sum(
        float(sample.value)
        for family in await metrics(server)
        for sample in family.samples
        if sample.name == name
    )


async def reachable(server: RunningServer) -> bool:
    return await asyncio.to_thread(server.healthy)


async def in_flight(server: RunningServer) -> bool:
    """Whether a worker of the server waits in the database's view: it looked and found nothing."""
    connection = await asyncpg.connect(server.database_url)
    try:
        found: bool = await connection.fetchval(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE '%inbox_heads%'"
            " AND pid <> pg_backend_pid())"
        )
    finally:
        await connection.close()
    return found


async def status_of(agent: Agent) -> int:
    return (await agent.rest("GET", f"/workspaces/{agent.id}")).status_code


def seconds_spent(server: RunningServer) -> float:
    """What a start took of a processor: on an idle machine the time it takes."""
    started = psutil.Process(server.pid)
    times = [p.cpu_times() for p in (started, *started.children(recursive=True))]
    return float(sum(t.user + t.system + t.children_user + t.children_system for t in times))


def greeting(server: RunningServer) -> str:
    """Everything that a start prints."""
    deadline = time.monotonic() + PATIENCE
    while "molecule-grpc workspace ls" not in (text := server.log.read_text()):
        assert time.monotonic() < deadline, text
        time.sleep(0.02)
    return text


def children_named(server: RunningServer, name: str) -> list[psutil.Process]:
    children = psutil.Process(server.pid).children(recursive=True)
    return [child for child in children if child.name() == name]


async def count_new(server: RunningServer, old: list[psutil.Process]) -> int:
    return len([worker for worker in server.workers() if worker not in old])


@contextlib.asynccontextmanager
async def streaming(agent: Agent) -> AsyncIterator[None]:
    """An open inbox stream."""
    headers = {**agent.headers, "accept": "text/event-stream"}
    path = f"/workspaces/{agent.id}/inbox/stream"
    async with agent.wire.http.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200
        yield


async def end_of_stream(agent: Agent) -> grpc.StatusCode:
    """How an inbox stream ends, on a connection of its own."""
    from moleculeai.delegation.v1 import delegation_service_pb2 as pb
    from moleculeai.delegation.v1.delegation_service_pb2_grpc import DelegationServiceStub

    target = str(agent.wire.http.base_url).removeprefix("http://")
    async with grpc.aio.insecure_channel(
        target, options=[("grpc.use_local_subchannel_pool", 1)]
    ) as channel:
        stub = DelegationServiceStub(channel)
        opened = stub.StreamInbox(
            pb.StreamInboxRequest(workspace_id=agent.id), metadata=tuple(agent.headers.items())
        )
        with contextlib.suppress(grpc.aio.AioRpcError):
            async for _ in opened:
                pass
        return await opened.code()


def list_workspaces(server: RunningServer, token: str) -> httpx.Response:
    return httpx.get(
        f"{server.url}/workspaces", headers={"authorization": f"Bearer {token}"}, timeout=PATIENCE
    )


def refused_start(data_dir: Path, **settings: str) -> tuple[int, str]:
    """The exit code of a start that ends by itself, and all that it said."""
    defaults = {"MOLECULE_DATA_DIR": str(data_dir), "PORT": str(free_port()), "WORKERS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "molecule_grpc.cli.main", "up"],
        env={**os.environ, **defaults, **settings},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def tasks(pid: int) -> list[int]:
    """The threads of a process."""
    return [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]


def cores(task: int) -> set[int]:
    """Where a thread may run; nowhere when it has ended."""
    with contextlib.suppress(ProcessLookupError):
        return os.sched_getaffinity(task)
    return set()
