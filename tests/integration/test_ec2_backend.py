"""The EC2 backend on moto: what a machine is like, what it bears, and what EC2's errors mean."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason
from molecule_grpc.backends.contract.workloads import (
    Absent,
    Resource,
    Running,
    StartRequest,
    Stopped,
)
from molecule_grpc.backends.ec2.backend import Ec2Backend
from tests.amazon import (
    ScriptedAmazon,
    a_template,
    amazon,
    done_then,
    failing,
    nothing,
    settings_for,
)
from tests.integration.backends import a_start
from tests.waiting import PATIENCE, until


@dataclass(slots=True)
class Stand:
    """A backend on an Amazon, and Amazon as another client sees it."""

    backend: Ec2Backend
    front: ScriptedAmazon
    witness: Any
    installation: str

    def another(self, installation: str = "", **settings: Any) -> Ec2Backend:
        """Another worker's backend, or another installation's."""
        return Ec2Backend(settings_for(self.front, **settings), installation or self.installation)

    def described(self, machine: str) -> dict[str, Any]:
        found: dict[str, Any] = self.witness.describe_instances(InstanceIds=[machine])[
            "Reservations"
        ][0]["Instances"][0]
        return found


@pytest.fixture
async def stand(moto: str, amazon_keys: None) -> AsyncIterator[Stand]:
    installation = uuid.uuid4().hex
    async with amazon(moto) as front, contextlib.AsyncExitStack() as stack:
        backend = Ec2Backend(settings_for(front), installation)
        stack.push_async_callback(backend.close)
        witness = stack.enter_context(contextlib.closing(front.witness()))
        yield Stand(backend, front, witness, installation)
        for owned in await backend.list_owned(deadline=PATIENCE):
            await backend.remove_volumes(owned.workspace_id, deadline=PATIENCE)


def wanted(**given: Any) -> StartRequest:
    """A start as the platform asks for it: each try has a bootstrap token of its own."""
    token = uuid.uuid4().hex
    return a_start(platform_url="https://platform.example", bootstrap_token=token, **given)


async def start(stand: Stand, request: StartRequest) -> str:
    return (await stand.backend.start(request, deadline=PATIENCE)).resource_id


async def test_a_machine_is_closed_whatever_its_template_says(stand: Stand) -> None:
    """IMDSv2 alone, an encrypted disk that goes with it, tags from the first moment."""
    disk = {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 20, "DeleteOnTermination": False}}
    template = a_template(
        stand.front.moto, BlockDeviceMappings=[disk], MetadataOptions={"HttpTokens": "optional"}
    )
    backend = stand.another(
        launch_templates=(("hermes", template),), instance_types=(("4", "m5.xlarge"),)
    )
    request = wanted(runtime="hermes", tier=4, env={"API_KEY": "sk-secret"})
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(backend.close)
        machine = (await backend.start(request, deadline=PATIENCE)).resource_id
    [asked] = [each.given for each in stand.front.asked if each.action == "RunInstances"]
    assert asked["ClientToken"] == str(request.operation_id)
    assert asked["MetadataOptions.HttpTokens"] == "required"
    assert asked["MetadataOptions.HttpPutResponseHopLimit"] == "1"
    assert asked["BlockDeviceMapping.1.Ebs.Encrypted"] == "true"
    assert asked["BlockDeviceMapping.1.Ebs.DeleteOnTermination"] == "true"
    assert asked["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert "sk-secret" not in base64.b64decode(asked["UserData"]).decode()
    found = stand.described(machine)
    assert found["InstanceType"] == "m5.xlarge"
    tags = {each["Key"]: each["Value"] for each in found["Tags"]}
    assert tags["molecule.installation"] == stand.installation
    assert tags["molecule.operation"] == tags["molecule.made-by"] == str(request.operation_id)


ERRORS = [
    ("VcpuLimitExceeded", 400, FailureReason.QUOTA, False),
    ("InsufficientInstanceCapacity", 500, FailureReason.CAPACITY, True),
    ("UnauthorizedOperation", 403, FailureReason.FORBIDDEN, False),
    ("InvalidAMIID.NotFound", 400, FailureReason.IMAGE_MISSING, False),
    ("InvalidParameterValue", 400, FailureReason.CONFIGURATION, False),
]


@pytest.mark.parametrize(("code", "status", "reason", "again"), ERRORS)
async def test_errors_of_ec2_are_reasons_and_their_texts_stay_here(
    stand: Stand, code: str, status: int, reason: FailureReason, again: bool
) -> None:
    stand.front.script["RunInstances"] = [failing(code, status)]
    with pytest.raises(BackendFailure) as failed:
        await start(stand, wanted())
    assert (failed.value.reason, failed.value.retryable) == (reason, again)
    assert failed.value.undone
    assert "vpc-0secret" not in failed.value.public


async def test_a_call_that_is_throttled_is_made_again(stand: Stand) -> None:
    stand.front.script["RunInstances"] = [failing("RequestLimitExceeded", 503)] * 2
    await start(stand, wanted())
    assert stand.front.count("RunInstances") == 3
    stand.front.script["DescribeInstances"] = [failing("RequestLimitExceeded", 503)] * 4
    with pytest.raises(BackendFailure) as failed:
        await stand.backend.list_owned(deadline=PATIENCE)
    assert (failed.value.reason, failed.value.retryable) == (FailureReason.THROTTLED, True)


async def test_what_lacks_a_template_an_image_or_a_way_back_never_starts(stand: Stand) -> None:
    missing = a_template(stand.front.moto, image="ami-00000000000000000")
    cases: list[tuple[StartRequest, dict[str, Any], str]] = [
        (wanted(runtime="other"), {"launch_templates": (("hermes", "x"),)}, "configuration"),
        (wanted(), {"launch_templates": (("*", "none-such"),)}, "configuration"),
        (wanted(), {"launch_templates": (("*", missing),)}, "image_missing"),
        (a_start(), {}, "configuration"),
        (wanted(egress=("example.com",)), {}, "egress_unenforced"),
    ]
    for request, settings, reason in cases:
        backend = stand.another(**settings)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(backend.close)
            with pytest.raises(BackendFailure) as failed:
                await backend.start(request, deadline=PATIENCE)
        assert (failed.value.reason, failed.value.undone) == (reason, True)
    assert stand.front.count("RunInstances") == 0


async def test_a_start_that_another_worker_repeats_makes_one_machine(stand: Stand) -> None:
    """The first worker's answer is lost, and its token is another: EC2 tells by the operation."""
    request = wanted()
    never = asyncio.Event()
    stand.front.script["RunInstances"] = [done_then(never)]
    lost = asyncio.create_task(stand.backend.start(request, deadline=PATIENCE))
    await until(lambda: _of(stand, request), lambda found: len(found) == 1)
    lost.cancel()
    await asyncio.gather(lost, return_exceptions=True)
    # EC2's lists do not show the machine at once.
    stand.front.script["DescribeInstances"] = [nothing]
    backend = stand.another(launch_templates=stand.backend._settings.launch_templates)
    again = wanted(workspace_id=request.workspace_id, operation_id=request.operation_id)
    started = await backend.start(again, deadline=PATIENCE)
    await backend.close()
    never.set()
    assert [started.resource_id] == await _of(stand, request)
    assert stand.front.count("RunInstances") == 2


async def _of(stand: Stand, request: StartRequest) -> list[str]:
    """The machines of a workspace that cost something."""
    filters = [
        {"Name": "tag:molecule.workspace", "Values": [str(request.workspace_id)]},
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopped"]},
    ]
    answer = await asyncio.to_thread(stand.witness.describe_instances, Filters=filters)
    return [each["InstanceId"] for group in answer["Reservations"] for each in group["Instances"]]


async def test_a_wake_that_is_undone_keeps_the_disk_and_a_first_start_does_not(
    stand: Stand,
) -> None:
    first = wanted()
    machine = await start(stand, first)
    whole = Resource(workspace_id=first.workspace_id)
    await stand.backend.stop(whole, deadline=PATIENCE)
    stopped = await stand.backend.status(whole, deadline=PATIENCE)
    assert isinstance(stopped, Stopped)
    [kept] = await stand.backend.list_owned(deadline=PATIENCE)
    assert (kept.workspace_id, kept.resource_id, kept.running) == (first.workspace_id, "", False)

    wake = wanted(workspace_id=first.workspace_id)
    assert await start(stand, wake) == machine
    running = await stand.backend.status(whole, deadline=PATIENCE)
    assert isinstance(running, Running)
    assert running.operation_id == wake.operation_id
    await stand.backend.stop(wake.resource, deadline=PATIENCE)
    assert stand.described(machine)["State"]["Name"] == "stopped"

    other = wanted()
    made = await start(stand, other)
    await stand.backend.stop(other.resource, deadline=PATIENCE)
    assert stand.described(made)["State"]["Name"] == "terminated"
    await stand.backend.remove_volumes(first.workspace_id, deadline=PATIENCE)
    assert stand.described(machine)["State"]["Name"] == "terminated"


async def test_a_wake_without_capacity_leaves_the_machine_to_rest(stand: Stand) -> None:
    first = wanted()
    machine = await start(stand, first)
    whole = Resource(workspace_id=first.workspace_id)
    await stand.backend.stop(whole, deadline=PATIENCE)
    stand.front.script["StartInstances"] = [failing("InsufficientInstanceCapacity", 500)]
    with pytest.raises(BackendFailure) as failed:
        await start(stand, wanted(workspace_id=first.workspace_id))
    assert failed.value.reason is FailureReason.CAPACITY
    assert stand.described(machine)["State"]["Name"] == "stopped"


async def test_a_machine_of_another_installation_is_neither_seen_nor_touched(
    stand: Stand,
) -> None:
    request = wanted()
    machine = await start(stand, request)
    stranger = stand.another(uuid.uuid4().hex)
    foreign = Resource(workspace_id=request.workspace_id, resource_id=machine)
    assert await stranger.list_owned(deadline=PATIENCE) == []
    assert await stranger.status(foreign, deadline=PATIENCE) == Absent()
    await stranger.stop(foreign, deadline=PATIENCE)
    await stranger.remove_volumes(request.workspace_id, deadline=PATIENCE)
    await stranger.close()
    assert stand.described(machine)["State"]["Name"] == "running"


async def test_a_console_is_what_the_machine_printed(stand: Stand) -> None:
    request = wanted()
    await start(stand, request)
    printed = await stand.backend.console(request.resource, deadline=PATIENCE)
    assert "Linux version" in printed
