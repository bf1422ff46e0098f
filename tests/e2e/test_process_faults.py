"""Processes of an installation that die or freeze: it serves again without anybody's help."""

from __future__ import annotations

import json
import os
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from molecule_grpc.db.embedded.processes import processes_in, recorded_pid, send
from tests.e2e.parties import Agent, Organization, Party, found, wire_to
from tests.e2e.test_attempts import delegated, inbox
from tests.running import RunningServer
from tests.waiting import until

pytestmark = pytest.mark.slow

UNAVAILABLE = 503


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a Postgres of its own. Kill what you like: it must come back by itself."""
    server = RunningServer("", tmp_path_factory.mktemp("installation"), MOLECULE_SPARE_WORKER="1")
    try:
        server.start()
        yield server
    finally:
        server.kill()
        send(signal.SIGKILL, processes_in(server.data_dir / "postgres"))


@pytest.fixture
async def agents(installation: RunningServer) -> AsyncIterator[tuple[Agent, Agent]]:
    """A pair of workspaces that may delegate to each other."""
    async with wire_to(installation) as wire:
        org: Organization = await found(wire, wire.party(installation.admin_token))
        yield await org.hire(), await org.hire()


def postgres(server: RunningServer) -> list[psutil.Process]:
    """Postgres' processes, the postmaster first."""
    cluster = server.data_dir / "postgres"
    postmaster = recorded_pid(cluster / "postmaster.pid")
    return sorted(processes_in(cluster), key=lambda process: process.pid != postmaster)


@contextmanager
def stopped(processes: list[psutil.Process]) -> Iterator[None]:
    """Freeze processes while the block lasts."""
    send(signal.SIGSTOP, processes)
    try:
        yield
    finally:
        send(signal.SIGCONT, processes)


def children(server: RunningServer, *words: str) -> set[int]:
    """The children of `up` whose command lines have all these words."""
    found = set()
    for process in psutil.Process(server.pid).children():
        with suppress(psutil.Error):
            line = process.cmdline()  # empty once it has died
            if line and set(words) <= {*line, Path(line[0]).name}:
                found.add(process.pid)
    return found


async def spare(server: RunningServer) -> int:
    """The spare process, once loaded."""

    async def look() -> set[int]:
        return {process.pid for process in server.workers()} - {worker(server)}

    [found] = await until(look, bool)
    return found


def worker(server: RunningServer) -> int:
    """The process of the worker that was ready last."""
    name: str = json.loads(logged(server.log, "worker ready"))["worker"]
    return int(name.split("-")[-2])


async def serving_worker(server: RunningServer, before: int) -> int:
    """Wait for another worker than the one before."""

    async def look() -> int:
        return worker(server)

    return await until(look, lambda pid: pid != before)


async def status(party: Party, path: str) -> int:
    """What a read answers; 503 also where nobody listens at this moment."""
    try:
        return (await party.rest("GET", path)).status_code
    except httpx.TransportError:
        return UNAVAILABLE


async def reads(agent: Agent) -> int:
    """The status of a call that reads the database."""
    return await status(agent, f"/workspaces/{agent.id}/inbox")


async def writes(agent: Agent) -> int:
    """The status of a call that writes to the database."""
    try:
        return (
            await agent.rest("POST", "/registry/heartbeat", {"workspace_id": agent.id})
        ).status_code
    except httpx.TransportError:
        return UNAVAILABLE


async def handed_over(source: Agent, target: Agent) -> str:
    """A delegation, asked for until it is accepted; its id.

    For up to 1.5 s after a worker's death the edge may send calls to the one that is gone: 503.
    """
    body = {"target_id": target.id, "task": "x", "idempotency_key": uuid.uuid4().hex}

    async def ask() -> httpx.Response | None:
        with suppress(httpx.TransportError):
            answer = await source.rest("POST", f"/workspaces/{source.id}/delegate", body)
            return answer if answer.status_code != UNAVAILABLE else None
        return None

    accepted = await until(ask, lambda answer: answer is not None)
    assert accepted is not None
    assert accepted.status_code == 202, accepted.text
    return str(accepted.json()["delegation_id"])


def logged(log: Path, event: str) -> str:
    """The last line of the server's log that tells of this event."""
    lines = [line for line in log.read_text().splitlines() if event in line]
    assert lines, f"{event} is not in the log"
    return lines[-1]


async def test_postgres_that_was_killed_is_started_again(
    installation: RunningServer, agents: tuple[Agent, Agent]
) -> None:
    """Calls read 503 until Postgres is up; a delegation accepted before the kill is kept."""
    source, target = agents
    await delegated(source, target)
    killed = postgres(installation)[0]
    killed.kill()
    seen = set()

    async def look() -> int:
        # A backend of the Postgres that was killed may still answer a read.
        seen.update(answers := {await reads(source), await writes(source)})
        return max(answers) if postgres(installation)[:1] not in ([], [killed]) else 0

    await until(look, lambda code: code == 200)
    assert seen <= {200, UNAVAILABLE}
    await handed_over(source, target)
    assert len(await inbox(target)) == 2
    assert "SIGKILL" in logged(installation.log, "Postgres is down")


async def test_postgres_that_freezes_is_waited_for(
    installation: RunningServer, agents: tuple[Agent, Agent]
) -> None:
    """The edge answers 503 instead; the frozen processes go on as if nothing had been."""
    source, target = agents
    before = postgres(installation)
    with stopped(before):
        await until(lambda: status(source, "/healthz"), lambda code: code == UNAVAILABLE)
        assert await reads(source) == UNAVAILABLE
    await until(lambda: status(source, "/healthz"), lambda code: code == 200)
    await handed_over(source, target)
    assert postgres(installation)[0] == before[0]


async def test_a_worker_that_was_killed_is_replaced_by_the_one_that_waits(
    installation: RunningServer, agents: tuple[Agent, Agent]
) -> None:
    """The spare process has loaded the program before; then the next one does."""
    source, target = agents
    accepted = await delegated(source, target)
    killed, waiting = worker(installation), await spare(installation)
    os.kill(killed, signal.SIGKILL)
    assert await serving_worker(installation, killed) == waiting
    path = f"/workspaces/{source.id}/delegations/{accepted}"
    await until(lambda: status(source, path), lambda code: code == 200)
    await handed_over(source, target)
    assert accepted in {item["delegation_id"] for item in await inbox(target)}
    assert await spare(installation) != waiting


async def test_a_frozen_worker_is_replaced(
    installation: RunningServer, agents: tuple[Agent, Agent]
) -> None:
    """Calls in flight break, and new ones are served."""
    source, target = agents
    frozen = worker(installation)
    os.kill(frozen, signal.SIGSTOP)
    await serving_worker(installation, frozen)
    assert not psutil.pid_exists(frozen)
    await until(lambda: status(source, "/healthz"), lambda code: code == 200)
    await handed_over(source, target)
    assert "stopped by a signal" in logged(installation.log, "a process is frozen")


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
async def test_an_edge_that_ends_or_freezes_is_replaced(
    installation: RunningServer, agents: tuple[Agent, Agent], signum: signal.Signals
) -> None:
    source, target = agents
    inside = {worker(installation)}
    [gone] = inside if installation.inside else children(installation, "envoy")
    os.kill(gone, signum)

    async def look() -> set[int]:
        return children(installation, "envoy")

    await until(look, lambda edges: bool(edges - {gone}))
    await until(lambda: status(source, "/healthz"), lambda code: code == 200)
    await handed_over(source, target)
