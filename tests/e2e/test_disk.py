"""A disk that fills up: writes are refused in time, reads are served, and service comes back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from molecule_grpc.db.embedded.processes import processes_in, send
from tests.e2e.mcp_clients import post, tool_call
from tests.e2e.parties import Agent, Organization, Refused, found, wire_to
from tests.e2e.test_attempts import delegated, inbox, seen_by
from tests.ports import free_port
from tests.running import RunningServer
from tests.small_disk import CannotMountError, fill, small_disk
from tests.waiting import until

_MIB = 1024 * 1024
LOW = 100 * _MIB


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose data are on a disk of 400 MiB, 100 of which must stay free."""
    place = tmp_path_factory.mktemp("installation")
    server = RunningServer("", place / "disk", MOLECULE_DISK_LOW_BYTES=str(LOW))
    server.log = place / "server.log"
    try:
        with small_disk(server.data_dir, 400):
            try:
                server.start()
                yield server
            finally:
                server.kill()
                send(signal.SIGKILL, processes_in(server.data_dir / "postgres"))
    except CannotMountError:
        pytest.skip("may not mount")


@pytest.fixture
async def agents(installation: RunningServer) -> AsyncIterator[tuple[Agent, Agent]]:
    """A pair of workspaces that may delegate to each other."""
    async with wire_to(installation) as wire:
        org: Organization = await found(wire, wire.party(installation.admin_token))
        yield await org.hire(), await org.hire()


@pytest.fixture
def ballast(installation: RunningServer) -> Iterator[Path]:
    """A file to fill the disk with; gone at the end."""
    file = installation.data_dir / "ballast"
    yield file
    file.unlink(missing_ok=True)


async def delegate(source: Agent, target: Agent) -> httpx.Response:
    body = {"target_id": target.id, "task": "count the words"}
    return await source.rest("POST", f"/workspaces/{source.id}/delegate", body)


async def test_a_nearly_full_disk_refuses_what_stores_and_serves_the_rest(
    installation: RunningServer, agents: tuple[Agent, Agent], ballast: Path
) -> None:
    """The same reason on every face; a heartbeat, an ack and a cancel still pass."""
    source, target = agents
    accepted = await delegated(source, target)
    fill(ballast, leave=LOW // 2)
    refused = await until(lambda: delegate(source, target), lambda answer: answer.is_error)
    assert refused.status_code == 503
    assert "disk is nearly full" in refused.json()["error"]
    assert refused.headers["retry-after"] == "5"
    with pytest.raises(Refused) as caught:
        await source.rpc(pb.DelegateRequest(workspace_id=source.id, target_id=target.id, task="x"))
    assert (caught.value.code, caught.value.reason) == ("UNAVAILABLE", "DISK_LOW")
    arguments = {"workspace_id": target.id, "task": "x"}
    tool = (await post(source, tool_call("delegate_task_async", arguments))).json()["result"]
    assert tool["isError"]
    assert "DISK_LOW" in tool["content"][0]["text"]

    assert len(await inbox(target)) >= 1
    beat = {"workspace_id": source.id}
    assert (await source.rest("POST", "/registry/heartbeat", beat)).status_code == 200
    path = f"/workspaces/{source.id}/delegations/{accepted}/cancel"
    assert (await source.rest("POST", path, {})).status_code == 200
    assert free_in_metrics(await source.rest("GET", "/metrics")) < LOW
    [disk] = [row for row in doctor(installation) if row["name"] == "disk"]
    assert not disk["well"]

    ballast.unlink()
    await until(lambda: delegate(source, target), lambda answer: answer.status_code == 202)


async def test_a_full_disk_costs_nothing_that_was_accepted(
    installation: RunningServer, agents: tuple[Agent, Agent], ballast: Path
) -> None:
    """Another program takes everything, Postgres cannot even write its log, and ends."""
    source, target = agents
    accepted = await delegated(source, target)
    fill(ballast)
    os.kill(int((installation.data_dir / "postgres/postmaster.pid").read_text().split()[0]), 9)

    async def log() -> str:
        return installation.log.read_text()

    await until(log, lambda text: "the disk is full" in text)
    ballast.unlink()

    async def answer() -> int:
        try:
            return (await delegate(source, target)).status_code
        except httpx.TransportError:
            return 0

    await until(answer, lambda code: code == 202)
    assert (await seen_by(source, accepted))["status"] == "queued"


def free_in_metrics(answer: httpx.Response) -> float:
    """The gauge of free bytes."""
    [line] = [line for line in answer.text.splitlines() if line.startswith("molecule_disk_free")]
    return float(line.split()[-1])


def doctor(server: RunningServer) -> list[dict[str, Any]]:
    """What `doctor` finds about the same data directory."""
    environment = {
        **os.environ,
        "DATABASE_URL": "",
        "MOLECULE_DATA_DIR": str(server.data_dir),
        "MOLECULE_DISK_LOW_BYTES": str(LOW),
        "PORT": str(free_port()),
    }
    command = [sys.executable, "-m", "molecule_grpc.cli.main", "doctor", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    findings: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    return findings
