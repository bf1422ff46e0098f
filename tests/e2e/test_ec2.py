"""Workspaces on machines of EC2, through a real server: moto is Amazon, the test is the agent."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import email
import json
import re
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.amazon import KEYS, REGION, ScriptedAmazon, a_template, amazon
from tests.e2e.parties import Organization, Wire, found, wire_to
from tests.engine.machine import Machine
from tests.running import RunningServer
from tests.waiting import until

pytestmark = pytest.mark.e2e

_GIVEN = re.compile(r"^main\(json\.loads\('(.*)'\)\)$", re.MULTILINE)


@dataclass(slots=True)
class Platform:
    """A running server, and Amazon seen by another client than the server's."""

    org: Organization
    wire: Wire
    witness: Any
    front: ScriptedAmazon

    async def machines(self, workspace: str, *states: str) -> list[dict[str, Any]]:
        """A workspace's machines in these states."""
        wanted = [
            {"Name": "tag:molecule.workspace", "Values": [workspace]},
            {"Name": "instance-state-name", "Values": list(states)},
        ]
        answer = await asyncio.to_thread(self.witness.describe_instances, Filters=wanted)
        return [each for group in answer["Reservations"] for each in group["Instances"]]

    async def machine(self, workspace: str, *states: str) -> str:
        """The id of the workspace's only machine, after waiting for one of `states`."""
        reached = await until(
            lambda: self.machines(workspace, *states), lambda rows: len(rows) == 1
        )
        return str(reached[0]["InstanceId"])

    async def user_data(self, machine: str) -> str:
        """What anybody reads who may describe machines."""
        answer = await asyncio.to_thread(
            self.witness.describe_instance_attribute, InstanceId=machine, Attribute="userData"
        )
        message = email.message_from_bytes(base64.b64decode(answer["UserData"]["Value"]))
        _, _, script = message.walk()
        return str(script.get_payload())

    async def given(self, machine: str) -> dict[str, Any]:
        """What the user data tells the machine."""
        match = _GIVEN.search(await self.user_data(machine))
        assert match is not None
        given: dict[str, Any] = json.loads(match[1])
        return given

    async def exchange(self, workspace: str, token: str) -> httpx.Response:
        """What a machine asks with its bootstrap token, and nothing else."""
        path = f"/workspaces/{workspace}/bootstrap"
        return await self.wire.party().rest("POST", path, {"bootstrap_token": token})

    async def settled(self, workspace: str) -> None:
        """Return when no start and no stop is under way: a stop would undo a start."""

        async def states() -> set[str]:
            answer = await self.org.rest("GET", f"/workspaces/{workspace}/operations")
            return {each["state"] for each in answer.json()["operations"]}

        await until(states, lambda found: not found & {"pending", "running"})

    async def status(self, workspace: str) -> str:
        """A workspace's status."""
        return str((await self.org.rest("GET", f"/workspaces/{workspace}")).json()["status"])


@pytest.fixture
async def platform(
    own_server: Callable[..., RunningServer], moto: str, machine: Machine
) -> AsyncIterator[Platform]:
    async with amazon(moto) as front:
        server = await asyncio.to_thread(_started, own_server, front, machine.port)
        with contextlib.closing(front.witness()) as witness:
            async with wire_to(server) as wire:
                org = await found(wire, wire.party(server.admin_token))
                yield Platform(org, wire, witness, front)


def _started(
    own_server: Callable[..., RunningServer], front: ScriptedAmazon, ssh_port: int
) -> RunningServer:
    return own_server(
        MOLECULE_BACKEND="ec2",
        MOLECULE_EC2_LAUNCH_TEMPLATES=f"*={a_template(front.moto)}",
        MOLECULE_EC2_ENDPOINT=front.url,
        MOLECULE_EC2_CONNECT_ENDPOINT=front.url,
        MOLECULE_EC2_POLL_SECONDS="0.1",
        MOLECULE_EC2_SSH_PORT=str(ssh_port),
        MOLECULE_EC2_START_COMMAND="echo started >>/var/log/molecule/agent.log",
        EXTERNAL_PLATFORM_URL="https://platform.example",
        AWS_REGION=REGION,
        **{name.upper(): value for name, value in KEYS.items()},
        AWS_EC2_METADATA_DISABLED="true",
    )


async def test_a_workspace_lives_on_one_machine_from_its_creation_to_its_removal(
    platform: Platform,
) -> None:
    org = platform.org
    secret = f"secret-{uuid.uuid4().hex}"
    body = {"name": "runner", "runtime": "langgraph", "secrets": {"API_KEY": secret}}
    created = await org.rest("POST", "/workspaces", body)
    assert created.status_code == 201, created.text
    workspace = str(created.json()["id"])
    machine = await platform.machine(workspace, "running")

    # Its user data holds nothing secret but the bootstrap token.
    data, given = await platform.user_data(machine), await platform.given(machine)
    assert secret not in data
    assert given["platform_url"] == "https://platform.example"

    # Of twenty machines with the same token one gets what the workspace starts with.
    answers = await asyncio.gather(
        *(platform.exchange(workspace, given["token"]) for _ in range(20))
    )
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 19
    [won] = [answer.json() for answer in answers if answer.status_code == 200]
    assert won["environment"]["API_KEY"] == secret
    assert won["environment"]["MOLECULE_TOKEN"] == won["auth_token"]
    assert (await platform.exchange(workspace, given["token"])).status_code == 401

    await register(platform, workspace, won["auth_token"])
    assert (await org.rest("POST", f"/workspaces/{workspace}/hibernate", {})).status_code == 200
    assert await platform.machine(workspace, "stopped") == machine
    await until(lambda: platform.status(workspace), lambda status: status == "hibernated")
    assert (await org.rest("POST", f"/workspaces/{workspace}/wake", {})).status_code == 200
    assert await platform.machine(workspace, "running") == machine

    # The next boot has a token of its own, and its exchange ends the tokens before.
    again = await platform.given(machine)
    assert again["token"] != given["token"]
    other = (await platform.exchange(workspace, again["token"])).json()
    await register(platform, workspace, other["auth_token"])
    old = platform.wire.party(won["auth_token"])
    beat = await old.rest("POST", "/registry/heartbeat", {"workspace_id": workspace})
    assert beat.status_code == 401

    removed = await org.rest("DELETE", f"/workspaces/{workspace}", confirm="true")
    assert removed.status_code == 200, removed.text
    await platform.machine(workspace, "terminated")
    assert await platform.machines(workspace, "pending", "running", "stopping", "stopped") == []


async def test_a_machine_fetches_its_secrets_and_its_files_are_reached(
    platform: Platform, machine: Machine
) -> None:
    """The user data runs at 2 boots of a machine, whose files and logs are then read."""
    org = platform.org
    secret = """a "b" $c `d` \\ 'e' $(id)"""
    body = {"name": "runner", "runtime": "langgraph", "secrets": {"API_KEY": secret}}
    workspace = str((await org.rest("POST", "/workspaces", body)).json()["id"])
    instance = await platform.machine(workspace, "running")
    platform.front.keys[instance] = machine.keys
    script = await platform.user_data(instance)
    url = str(platform.wire.http.base_url).rstrip("/")
    machine.path("/boot.py").write_text(script.replace("https://platform.example", url))

    printed = [
        await asyncio.to_thread(machine.run, "/usr/bin/python3", "/boot.py") for _ in range(2)
    ]
    assert "are in place" in printed[0]
    assert printed[1] == ""
    read = '. /etc/molecule/agent.env; printf %s "$API_KEY"'
    assert await asyncio.to_thread(machine.run, "sh", "-c", read) == secret
    assert machine.path("/etc/molecule/agent.env").stat().st_mode & 0o777 == 0o600
    read = '. /etc/molecule/agent.env; printf %s "$MOLECULE_TOKEN"'
    await register(platform, workspace, await asyncio.to_thread(machine.run, "sh", "-c", read))

    path = f"/workspaces/{workspace}/files/notes.txt"
    written = await org.rest("PUT", path, {"content": "of the platform"}, root="/configs")
    assert written.status_code == 200, written.text
    assert machine.path("/opt/configs/notes.txt").read_text() == "of the platform"
    assert (await org.rest("GET", path, root="/configs")).json()["content"] == "of the platform"
    elsewhere = await org.rest("GET", path, root="/home")
    assert elsewhere.status_code == 501, elsewhere.text
    logs = await org.rest("GET", f"/workspaces/{workspace}/logs")
    assert logs.status_code == 200, logs.text
    assert r'"text":"started\nstarted\n"' in logs.text


async def register(platform: Platform, workspace: str, token: str) -> None:
    """Register as the agent."""
    body = {"id": workspace, "agent_card": {"name": "agent"}, "delivery_mode": "poll"}
    answer = await platform.wire.party(token).rest("POST", "/registry/register", body)
    assert answer.status_code == 200, answer.text
    await until(lambda: platform.status(workspace), lambda status: status == "online")
    await platform.settled(workspace)
