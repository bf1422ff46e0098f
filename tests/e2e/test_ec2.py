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

    async def machines(self, workspace: str, *states: str) -> list[dict[str, Any]]:
        """A workspace's machines in these states."""
        wanted = [
            {"Name": "tag:molecule.workspace", "Values": [workspace]},
            {"Name": "instance-state-name", "Values": list(states)},
        ]
        answer = await asyncio.to_thread(self.witness.describe_instances, Filters=wanted)
        return [each for group in answer["Reservations"] for each in group["Instances"]]

    async def machine(self, workspace: str, *states: str) -> str:
        """The id of its only machine, once that is in one of these states."""
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

    async def status(self, workspace: str) -> str:
        """A workspace's status."""
        return str((await self.org.rest("GET", f"/workspaces/{workspace}")).json()["status"])


@pytest.fixture
async def platform(own_server: Callable[..., RunningServer], moto: str) -> AsyncIterator[Platform]:
    async with amazon(moto) as front:
        server = await asyncio.to_thread(_started, own_server, front)
        with contextlib.closing(front.witness()) as witness:
            async with wire_to(server) as wire:
                org = await found(wire, wire.party(server.admin_token))
                yield Platform(org, wire, witness)


def _started(own_server: Callable[..., RunningServer], front: ScriptedAmazon) -> RunningServer:
    return own_server(
        MOLECULE_BACKEND="ec2",
        MOLECULE_EC2_LAUNCH_TEMPLATES=f"*={a_template(front.moto)}",
        MOLECULE_EC2_ENDPOINT=front.url,
        MOLECULE_EC2_CONNECT_ENDPOINT=front.url,
        MOLECULE_EC2_POLL_SECONDS="0.1",
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


async def register(platform: Platform, workspace: str, token: str) -> None:
    """Register as the agent."""
    body = {"id": workspace, "agent_card": {"name": "agent"}, "delivery_mode": "poll"}
    answer = await platform.wire.party(token).rest("POST", "/registry/register", body)
    assert answer.status_code == 200, answer.text
    await until(lambda: platform.status(workspace), lambda status: status == "online")
