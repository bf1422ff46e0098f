"""Processes of an installation that die or freeze: it serves again without anybody's help."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from molecule_grpc.db.embedded.processes import processes_in, recorded_pid, send
from tests.e2e.parties import Agent, Organization, Party, found, wire_to
from tests.e2e.test_attempts import delegated, inbox
from tests.running import RunningServer
from tests.waiting import until

UNAVAILABLE = 503


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a Postgres of its own. Kill what you like: it must come back by itself."""
    server = RunningServer("", tmp_path_factory.mktemp("installation"))
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


async def status(party: Party, path: str) -> int:
    """What a read answers; 503 also where nobody listens at this moment."""
    try:
        return (await party.rest("GET", path)).status_code
    except httpx.TransportError:
        return UNAVAILABLE


def logged(log: Path, event: str) -> str:
    """The last line of the server's log that tells of this event."""
    lines = [line for line in log.read_text().splitlines() if event in line]
    assert lines, f"{event} is not in the log"
    return lines[-1]


async def test_postgres_that_was_killed_is_started_again(
    installation: RunningServer, agents: tuple[Agent, Agent]
) -> None:
    """Meanwhile calls read 503; what was accepted before is there after."""
    source, target = agents
    accepted = await delegated(source, target)
    killed = postgres(installation)[0]
    killed.kill()
    path = f"/workspaces/{source.id}/delegations/{accepted}"
    seen = set()

    async def look() -> int:
        seen.add(answer := await status(source, path))
        return answer if postgres(installation)[:1] not in ([], [killed]) else 0

    await until(look, lambda code: code == 200)
    assert seen <= {200, UNAVAILABLE}
    await delegated(source, target)
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
        assert await status(source, f"/workspaces/{source.id}/inbox") == UNAVAILABLE
    await until(lambda: status(source, "/healthz"), lambda code: code == 200)
    await delegated(source, target)
    assert postgres(installation)[0] == before[0]
