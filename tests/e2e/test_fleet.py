"""N equal processes on one port: started, stopped, restarted and killed without harm."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.e2e.parties import Agent, found, wire_to
from tests.e2e.test_attempts import delegated, inbox
from tests.forked import run_command
from tests.ports import free_port
from tests.running import RunningServer
from tests.waiting import PATIENCE, until

pytestmark = pytest.mark.slow

MODES = ("envoy", "grpc")


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """Each host in turn."""
    return str(request.param)


# The host.


def test_a_start_says_once_which_host_serves_and_why(
    own_server: Callable[..., RunningServer],
) -> None:
    """As a line of the log, and as a line for people."""
    server = own_server(MOLECULE_HOST_MODE="auto")
    log = server.log.read_text().splitlines()
    [line] = [json.loads(line) for line in log if '"event": "host"' in line]
    assert (line["mode"], line["because"]) == ("envoy", "module, Envoy and Python fit")
    assert server.inside
    assert server.stop() == 0
    [shown] = [line for line in server.log.read_text().splitlines() if "handlers run" in line]
    assert shown.endswith("inside Envoy: module, Envoy and Python fit")


# The port.


def second(server: RunningServer, directory: Path, mode: str) -> subprocess.CompletedProcess[str]:
    """What becomes of another installation on the port of this one."""
    environment = server.environment | {
        "MOLECULE_HOST_MODE": mode,
        "MOLECULE_DATA_DIR": str(directory),
    }
    return run_command(["up"], environment, PATIENCE)


def test_a_second_installation_on_the_port_is_refused(
    own_server: Callable[..., RunningServer], tmp_path: Path, mode: str
) -> None:
    """Whichever host each has, and the first one serves on."""
    server = own_server(MOLECULE_HOST_MODE=mode)
    for other in MODES:
        refused = second(server, tmp_path, other)
        assert refused.returncode == 1, other
        assert f"is port {server.port} taken?" in refused.stderr
        assert server.healthy()


def test_a_port_of_another_program_is_refused(
    own_server: Callable[..., RunningServer], tmp_path: Path
) -> None:
    """Also of one that shares its port, which the kernel would let this user share."""
    server = own_server(MOLECULE_HOST_MODE="envoy")
    for option in ((), (socket.SO_REUSEPORT,)):
        with listening(*option) as port:
            server.environment["PORT"] = str(port)
            refused = second(server, tmp_path, "envoy")
            assert refused.returncode == 1
            assert f"is port {port} taken?" in refused.stderr


@contextlib.contextmanager
def listening(*options: int) -> Iterator[int]:
    """A port at which somebody listens."""
    with socket.socket() as somebody:
        # A port that a server had a minute ago still has closed connections.
        for option in (socket.SO_REUSEADDR, *options):
            somebody.setsockopt(socket.SOL_SOCKET, option, 1)
        somebody.bind(("127.0.0.1", free_port()))
        somebody.listen()
        yield int(somebody.getsockname()[1])


def test_a_port_is_free_again_after_an_end_of_any_kind(
    own_server: Callable[..., RunningServer],
) -> None:
    """SIGKILL of `up` leaves no lock behind; closed connections hold no port."""
    server = own_server(MOLECULE_HOST_MODE="envoy")
    server.restart()
    assert server.stop() == 0
    server.start()


async def test_one_of_many_processes_has_memory_for_its_worker(
    own_server: Callable[..., RunningServer],
) -> None:
    """As of sixteen with a GiB for all: Envoy counts what Python takes from the same heap."""
    server = own_server(
        MOLECULE_HOST_MODE="envoy",
        WORKERS="2",
        MOLECULE_EDGE_MEMORY_BYTES=str(128 * 1024 * 1024),
    )
    await whole(server, processes=2)
    [ready, _] = [line for line in server.log.read_text().splitlines() if "worker ready" in line]
    admin = f"{json.loads(ready)['address']}/edge-admin.sock"
    transport = httpx.AsyncHTTPTransport(uds=admin)
    async with httpx.AsyncClient(transport=transport, timeout=PATIENCE) as http:
        stats = await http.get("http://edge/stats?filter=fixed_heap.pressure")
    # In percent; from 50 on what stands still is ended sooner.
    assert int(stats.text.rpartition(":")[2]) < 40


# Whoever calls all the time.

_PAUSE = 0.02


@pytest.fixture
async def agents(
    own_server: Callable[..., RunningServer], mode: str
) -> AsyncIterator[tuple[RunningServer, Agent, Agent]]:
    """A server of two processes, and two agents of one organisation."""
    server = own_server(MOLECULE_HOST_MODE=mode, WORKERS="2")
    await whole(server, processes=2)
    async with wire_to(server) as wire:
        org = await found(wire, wire.party(server.admin_token))
        yield server, await org.hire(), await org.hire()


async def whole(server: RunningServer, processes: int) -> None:
    """Wait until `processes` workers are ready: /health answers as soon as the first is."""

    async def look() -> bool:
        log = server.log.read_text()
        return "is up" in log and log.count('"worker ready"') == processes

    await until(look, bool)


def processes(server: RunningServer) -> set[int]:
    """The processes that run handlers: workers, or Envoys with one in them."""
    return {process.pid for process in server.workers()}


@contextlib.asynccontextmanager
async def calling(server: RunningServer, agent: Agent) -> AsyncIterator[Counter[str]]:
    """Calls all the time while the block runs: how they ended, and how often.

    Over connections that are kept, over one for each call, and over gRPC. The pauses between them
    are shorter than a process takes to begin or to end anything.
    """
    ends: Counter[str] = Counter()
    over = asyncio.Event()
    path = f"/workspaces/{agent.id}/inbox"

    async def kept() -> None:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as http:
            while not over.is_set():
                ends[await outcome(http.get(path, headers=agent.headers))] += 1
                await asyncio.sleep(_PAUSE)

    async def short() -> None:
        while not over.is_set():
            ends[await outcome(one_connection(server, path, agent.headers))] += 1
            await asyncio.sleep(_PAUSE)

    async def rpc() -> None:
        while not over.is_set():
            ends[await outcome(agent.rest("GET", path))] += 1
            await asyncio.sleep(_PAUSE)

    async with asyncio.TaskGroup() as group:
        for work in (kept, kept, short, short, rpc):
            group.create_task(work())
        try:
            yield ends
        finally:
            over.set()


async def one_connection(
    server: RunningServer, path: str, headers: dict[str, str]
) -> httpx.Response:
    """A call on a connection of its own."""
    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as http:
        return await http.get(path, headers=headers)


async def outcome(call: Awaitable[httpx.Response]) -> str:
    """How a call ended, in a word."""
    try:
        return str((await call).status_code)
    except httpx.HTTPError as error:
        return repr(error)


# Stop.


async def test_a_stop_gives_notice_and_lets_calls_finish(
    agents: tuple[RunningServer, Agent, Agent],
) -> None:
    """Health says so before the port closes; a long poll ends with its answer; exit code 0."""
    server, agent, _ = agents
    seen: list[int] = []
    async with (
        grpc.aio.insecure_channel(server.grpc_target) as channel,
        httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as http,
        asyncio.TaskGroup() as group,
    ):
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        assert (await http.get("/healthz")).status_code == 200
        waiting = group.create_task(inbox(agent, wait_seconds=50))
        ending = group.create_task(asyncio.to_thread(server.stop))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING

        async def look() -> int:
            seen.append((await http.get("/healthz")).status_code)
            return seen[-1]

        await until(look, lambda status: status == 503)
        assert await waiting == []
        assert await ending == 0
    assert set(seen) <= {200, 503}


# Rolling restart.


def restart(server: RunningServer) -> subprocess.CompletedProcess[str]:
    """`molecule-grpc restart` for this server."""
    return subprocess.run(
        [sys.executable, "-m", "molecule_grpc.cli.main", "restart"],
        env=server.environment,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )


@pytest.mark.timeout(240)
async def test_a_restart_replaces_every_process_and_costs_no_call(
    agents: tuple[RunningServer, Agent, Agent],
) -> None:
    """During a restart unary calls succeed, long polls are answered, delegations are kept."""
    server, source, target = agents
    before = processes(server)
    accepted = {await delegated(source, target)}
    async with calling(server, source) as ends:
        done = await asyncio.to_thread(restart, server)
        accepted.add(await delegated(source, target))
    assert done.returncode == 0, done.stderr
    assert not before & processes(server)
    assert set(ends) == {"200"}, ends
    assert {item["delegation_id"] for item in await inbox(target)} == accepted


@pytest.mark.timeout(240)
async def test_a_restart_into_a_broken_program_leaves_the_old_one_serving(
    own_server: Callable[..., RunningServer], mode: str, tmp_path: Path
) -> None:
    """A restart whose new process fails names the reason; a later restart succeeds."""
    server = own_server(
        entry=["env"],  # A program that is executed finds the variable's folder.
        MOLECULE_HOST_MODE=mode,
        PYTHONPATH=f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    )
    await whole(server, processes=1)
    before = processes(server)
    broken = tmp_path / "sitecustomize.py"
    broken.write_text("import os, sys\n'worker' in str(sys.orig_argv) and os._exit(7)\n")
    if mode == "envoy":
        broken.write_text("import os\n'HOSTED_WORKER_DIRECTORY' in os.environ and os._exit(7)\n")
    failed = await asyncio.to_thread(restart, server)
    assert failed.returncode == 1
    assert "ended with 7" in failed.stderr
    assert before <= processes(server)
    assert server.healthy()
    broken.unlink()
    assert (await asyncio.to_thread(restart, server)).returncode == 0


def test_without_a_server_a_restart_says_so(tmp_path: Path) -> None:
    server = RunningServer("", tmp_path)
    failed = restart(server)
    assert failed.returncode == 1
    assert "no server" in failed.stderr


# Kill and freeze.


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
async def test_one_process_of_two_costs_only_its_own_connections(
    agents: tuple[RunningServer, Agent, Agent], signum: signal.Signals
) -> None:
    """New calls are answered all the time by the other; soon there are two again."""
    server, source, target = agents
    before = processes(server)
    struck = min(before)
    os.kill(struck, signum)

    async def look() -> set[int]:
        return processes(server) - {struck}

    await until(look, lambda now: len(now) == len(before) and not psutil.pid_exists(struck))
    task = await delegated_after_all(source, target)
    assert task in {item["delegation_id"] for item in await inbox(target)}


async def delegated_after_all(source: Agent, target: Agent) -> str:
    """Hand over a task.

    A connection that broke is no answer, and the edge's 503 tells of such a one behind it: a call
    that may have reached a worker is not repeated by the edge. So ask again.
    """
    body = {"target_id": target.id, "task": "count the words", "idempotency_key": "once"}
    while True:
        with contextlib.suppress(httpx.TransportError):
            answer = await source.rest("POST", f"/workspaces/{source.id}/delegate", body)
            if answer.status_code != 503:
                assert answer.status_code == 202, answer.text
                return str(answer.json()["delegation_id"])
