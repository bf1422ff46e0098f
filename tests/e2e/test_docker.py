"""Workspaces in containers, through the real server and a real engine in one network namespace."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import docker
import pytest

from tests.e2e.parties import Organization, found, wire_to
from tests.engine.docker import DockerEngine
from tests.engine.image import IMAGE
from tests.running import RunningServer
from tests.waiting import until

pytestmark = pytest.mark.e2e


@pytest.fixture
def platform(
    own_server: Callable[..., RunningServer], docker_engine: DockerEngine
) -> RunningServer:
    """A server beside the engine. The test reaches it through the namespace's interface."""
    return own_server(
        entry=docker_engine.namespace.entry,
        MOLECULE_HOST=docker_engine.namespace.inside,
        MOLECULE_BACKEND="docker",
        MOLECULE_DOCKER_HOST=docker_engine.url,
        MOLECULE_DOCKER_IMAGES=f"*={IMAGE}",
        MOLECULE_RECONCILE_SECONDS="1",
    )


@pytest.fixture
async def org(platform: RunningServer) -> AsyncIterator[Organization]:
    """An organisation on it."""
    async with wire_to(platform) as wire:
        yield await found(wire, wire.party(platform.admin_token))


async def test_doctor_says_what_the_engine_can_do_and_what_to_do_without_one(
    docker_engine: DockerEngine,
) -> None:
    for host, well in ((docker_engine.url, True), ("unix:///nowhere/docker.sock", False)):
        images = f"*={IMAGE}"
        process = await asyncio.create_subprocess_exec(
            *docker_engine.namespace.entry,
            *(sys.executable, "-m", "molecule_grpc.cli.main", "--json", "doctor", "backend"),
            env={
                **os.environ,
                "MOLECULE_DOCKER_HOST": host,
                "MOLECULE_DOCKER_IMAGES": images,
            },
            stdout=asyncio.subprocess.PIPE,
        )
        shown, _ = await process.communicate()
        findings = {each["name"]: each for each in json.loads(shown)["findings"]}
        assert process.returncode == (0 if well else 1), findings
        assert all(each["well"] for each in findings.values()) is well, findings
        if well:
            assert {"engine", "limits", "seccomp", "storage", "image of *"} <= set(findings)
            assert "runc" in findings["OCI runtimes"]["detail"]
            assert findings["egress"]["detail"] == "internal networks bind"
            # Operators who rely on lists of hosts are told which addresses stay reachable.
            assert docker_engine.namespace.inside in findings["this machine"]["detail"]
        else:
            assert "MOLECULE_DOCKER_HOST" in findings["engine"]["fix"]


async def test_a_container_comes_online_is_healed_and_leaves_nothing(
    org: Organization, witness: docker.DockerClient, platform: RunningServer
) -> None:
    """Created over REST; its agent finds the platform at the gateway of its network alone."""
    answer = await org.rest("POST", "/workspaces", {"name": "runner", "runtime": "langgraph"})
    assert (answer.status_code, answer.json()["status"]) == (201, "provisioning"), answer.text
    workspace = answer.json()["id"]

    async def look() -> dict[str, Any]:
        row: dict[str, Any] = (await org.rest("GET", f"/workspaces/{workspace}")).json()
        return row

    await until(look, lambda row: row.get("status") == "online")
    container = witness.containers.get(f"ws-{workspace}")
    assert b"registered" in container.logs()

    # The platform calls the agent where the engine says, not where the agent says.
    url = witness.api.port(f"ws-{workspace}", 8000)
    called = f"http://127.0.0.1:{url[0]['HostPort']}"
    await until(look, lambda row: row.get("url") == called)
    message = {"messageId": "m-1", "role": "user", "parts": [{"kind": "text", "text": "hi"}]}
    body = {"jsonrpc": "2.0", "id": "1", "method": "message/send", "params": {"message": message}}
    answer = await org.rest("POST", f"/workspaces/{workspace}/a2a", body)
    assert answer.status_code == 200, answer.text
    assert "echo: hi" in answer.text

    # Killed from outside, the container is missed and started again.
    container.remove(force=True)

    async def mine() -> list[str]:
        return [str(one.id) for one in witness.containers.list() if workspace in str(one.name)]

    await until(mine, lambda ids: ids not in ([], [container.id]))
    await until(look, lambda row: row.get("status") == "online")

    removed = await org.rest("DELETE", f"/workspaces/{workspace}", purge="true")
    assert removed.status_code == 200, removed.text

    async def left() -> list[str]:
        names = [str(one.name) for one in witness.containers.list(all=True, ignore_removed=True)]
        names += [str(one.id) for one in witness.volumes.list()]
        names += [str(one.name) for one in witness.networks.list()]
        return [name for name in names if "ws-" in name or "molecule" in name]

    await until(left, lambda names: names == [])
