"""Workspaces that the platform runs, through a real server on a scripted control plane."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests import control_plane as bad
from tests.control_plane import SECRET, ScriptedControlPlane, control_plane
from tests.e2e.parties import Organization, Party, found, wire_to
from tests.e2e.test_docs import shell_blocks
from tests.running import RunningServer
from tests.waiting import until

pytestmark = pytest.mark.e2e


@pytest.fixture
async def plane() -> AsyncIterator[ScriptedControlPlane]:
    async with control_plane() as opened:
        yield opened


@pytest.fixture
def fleet(own_server: Callable[..., RunningServer], plane: ScriptedControlPlane) -> RunningServer:
    """Two workers; a lease is over after two seconds."""
    return own_server(
        WORKERS="2",
        MOLECULE_BACKEND="control-plane",
        MOLECULE_ORG_ID="org-1",
        MOLECULE_CP_URL=plane.url,
        MOLECULE_CP_SHARED_SECRET=SECRET,
        MOLECULE_OPERATION_LEASE_SECONDS="2",
        MOLECULE_BACKEND_RETRY_SECONDS="0.1",
    )


@pytest.fixture
async def parties(fleet: RunningServer) -> AsyncIterator[tuple[Party, Organization]]:
    """The operator and an organisation."""
    async with wire_to(fleet) as wire:
        operator = wire.party(fleet.admin_token)
        yield operator, await found(wire, operator)


async def create(org: Organization, **fields: Any) -> str:
    body = {"name": "runner", "runtime": "langgraph", **fields}
    answer = await org.rest("POST", "/workspaces", body)
    assert (answer.status_code, answer.json()["status"]) == (201, "provisioning"), answer.text
    return str(answer.json()["id"])


async def ended(party: Party, workspace_id: str, count: int) -> list[dict[str, Any]]:
    """The operations, newest first, when so many have ended."""

    async def look() -> list[dict[str, Any]]:
        try:
            answer = await party.rest("GET", f"/workspaces/{workspace_id}/operations")
        except httpx.TransportError:  # The worker that held this connection was killed.
            return []
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = answer.json()["operations"]
        return rows

    return await until(look, lambda rows: len([r for r in rows if r.get("ended_at")]) >= count)


def _shell(server: RunningServer) -> dict[str, str]:
    """What a reader of the page has: the command line, an address and a token."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    token = server.admin_token
    return {**os.environ, "PATH": path, "MOLECULE_URL": server.url, "MOLECULE_TOKEN": token}


async def _the_commands_of_the_page_work(server: RunningServer) -> None:
    [block] = shell_blocks("docs/backends.md", "Starts and stops are operations")
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"set -e\n{block}"), env=_shell(server), stdout=asyncio.subprocess.PIPE
    )
    shown, _ = await process.communicate()
    assert process.returncode == 0
    assert shown.decode().splitlines()[-1].split("\t")[1] == "start"


def caller(server: RunningServer, port: int) -> psutil.Process:
    """The worker that holds a connection."""
    for worker in server.workers():
        if any(each.laddr.port == port for each in worker.net_connections("tcp")):
            return worker
    raise AssertionError(f"no worker has port {port}")


async def test_a_workspace_runs_from_its_creation_to_its_removal(
    fleet: RunningServer, plane: ScriptedControlPlane, parties: tuple[Party, Organization]
) -> None:
    """R-0.8, W3: over REST, command line and metrics, with the token of the agent's environment."""
    operator, org = parties
    shared = {"key": "SHARED", "value": "theirs"}
    assert (await org.rest("PUT", "/settings/secrets", shared)).status_code == 200
    workspace = await create(org, secrets={"OWN": "mine", "WORKSPACE_ID": "never this one"})
    [start] = await ended(operator, workspace, 1)
    assert (start["kind"], start["state"], start["source"]) == ("start", "succeeded", "create")
    [machine] = plane.running
    assert start["resource_id"] == machine.id
    given = {"OWN": "mine", "SHARED": "theirs", "WORKSPACE_ID": workspace}
    assert machine.env.items() >= given.items()
    agent = org.wire.party(machine.env["MOLECULE_TOKEN"])
    body = {"id": workspace, "agent_card": {"name": "runner"}, "delivery_mode": "poll"}
    assert (await agent.rest("POST", "/registry/register", body)).status_code == 200
    row = (await org.rest("GET", f"/workspaces/{workspace}")).json()
    assert row["status"] == "online"
    [seen] = await ended(agent, workspace, 1)
    assert (seen["id"], seen.get("resource_id", "")) == (start["id"], "")
    removed = await org.rest("DELETE", f"/workspaces/{workspace}", purge="true")
    assert removed.status_code == 200, removed.text
    assert [each["kind"] for each in await ended(operator, workspace, 2)] == ["remove", "start"]
    assert plane.running == []
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "molecule_grpc.cli.main", "workspace", "operations", workspace),
        "--json",
        env=_shell(fleet),
        stdout=asyncio.subprocess.PIPE,
    )
    shown, _ = await process.communicate()
    assert [each["state"] for each in json.loads(shown)] == ["succeeded", "succeeded"]

    async def metrics() -> str:
        return (await operator.rest("GET", "/metrics")).text

    counted = 'molecule_provision_total{backend="control-plane",outcome="succeeded"} 1.0'
    await until(metrics, lambda text: counted in text)
    assert machine.env["MOLECULE_TOKEN"] not in fleet.log.read_text()
    assert (await org.rest("GET", f"/workspaces/{workspace}/operations")).status_code == 404
    await _the_commands_of_the_page_work(fleet)


async def test_a_start_survives_the_death_of_its_worker(
    fleet: RunningServer, plane: ScriptedControlPlane, parties: tuple[Party, Organization]
) -> None:
    """SIGKILL after the engine's work, before its answer: the other worker finishes, once."""
    operator, org = parties
    plane.script["POST"] = [bad.done_then(plane, bad.hang)]
    workspace = await create(org)
    await plane.wait(lambda: len(plane.machines) == 1)
    caller(fleet, plane.asked[-1].port).kill()
    [start] = await ended(operator, workspace, 1)
    assert (start["state"], start["attempt"], plane.count("POST")) == ("succeeded", 2, 1)
    assert [each.id for each in plane.running] == [start["resource_id"]]
    await org.rest("DELETE", f"/workspaces/{workspace}")
    await ended(operator, workspace, 2)
    assert plane.running == []
