"""Workspaces on machines of Amazon EC2, each on its own."""

from __future__ import annotations

import base64
from uuid import UUID

from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason
from molecule_grpc.backends.contract.names import BackendName, Capability
from molecule_grpc.backends.contract.workloads import (
    Absent,
    Owned,
    Resource,
    Running,
    Started,
    StartRequest,
    Status,
    Stopped,
    Unknown,
)
from molecule_grpc.backends.ec2 import tags
from molecule_grpc.backends.ec2.calls import Calls, calling
from molecule_grpc.backends.ec2.entering import Entering
from molecule_grpc.backends.ec2.launch import Launcher
from molecule_grpc.backends.ec2.machines import Machine, Machines
from molecule_grpc.backends.ec2.under_way import UnderWay
from molecule_grpc.backends.ec2.user_data import user_data
from molecule_grpc.settings.ec2 import Ec2Settings


class Ec2Backend(Entering):
    """Machines of a region, tagged with an installation's id."""

    name = BackendName.EC2
    capabilities = frozenset(Capability) - {Capability.STATS, Capability.EGRESS}

    def __init__(self, settings: Ec2Settings, installation: str) -> None:
        calls = Calls(settings)
        machines = Machines(calls, installation, poll=settings.poll)
        super().__init__(calls, machines, settings)
        self._settings = settings
        self._launcher = Launcher(self._calls, settings, installation)
        self._under_way = UnderWay()

    async def start(self, request: StartRequest, *, deadline: float) -> Started:
        """Start the workspace's machine, or make one where there is none."""
        _require_possible(request)
        async with calling(deadline):
            whole = Resource(workspace_id=request.workspace_id)
            there = await self._machines.find(whole)
            same = next((each for each in there if _serves(each, request)), None)
            if same is not None:
                machine_id = same.id
            elif there:
                machine_id = await self._wake(there, request)
            else:
                machine_id = await self._launch(request)
            return Started((await self._machines.until_running(machine_id)).id)

    async def stop(self, resource: Resource, *, deadline: float) -> None:
        """Let the machine rest; with an operation, end the machine that this operation made."""
        async with calling(deadline):
            operation = resource.operation_id
            made = await self._under_way.made(operation) if operation else ""
            there = await self._machines.find(resource)
            ends = {each.id for each in there if operation and each.made_by == operation}
            rest = [each for each in there if each.id not in ends]
            if made and made not in {each.id for each in there}:
                # Too young for EC2's lists.
                ends.add(made)
            await self._machines.end(sorted(ends))
            await self._machines.stop(rest)
            if operation:
                self._under_way.forget(operation)

    async def status(self, resource: Resource, *, deadline: float) -> Status:
        """What has become of the machine."""
        try:
            async with calling(deadline):
                there = await self._machines.find(resource)
        except BackendFailure as failure:
            return Unknown(str(failure))
        if not there:
            return Absent()
        found = there[0]
        if found.runs:
            return Running(found.id, found.operation_id)
        return Stopped(found.id, found.operation_id)

    async def remove_volumes(self, workspace_id: UUID, *, deadline: float) -> None:
        """End every machine of the workspace, with its disk, and look until they are gone."""
        async with calling(deadline):
            there = await self._machines.find(Resource(workspace_id=workspace_id))
            await self._machines.end([each.id for each in there])

    async def list_owned(self, *, deadline: float) -> list[Owned]:
        """All machines; those that rest count as volumes without a workload."""
        async with calling(deadline):
            return await self._machines.owned()

    async def close(self) -> None:
        """Close connections. Machines go on."""
        await self._under_way.close()
        await self._calls.close()

    async def _launch(self, request: StartRequest) -> str:
        wanted = await self._launcher.parameters(request, user_data(request, self._settings))
        operation = request.operation_id
        machine_id = await self._under_way.make(operation, self._launcher.launch(wanted))
        if not machine_id:
            made = await self._machines.find(request.resource)
            if not made:
                raise BackendFailure(
                    FailureReason.ENGINE, "EC2 does not show what it has made", retryable=True
                )
            machine_id = made[0].id
        return machine_id

    async def _wake(self, there: list[Machine], request: StartRequest) -> str:
        """Start the machine that the workspace has, with a bootstrap token of its own."""
        await self._machines.stop(there)
        machine = there[0]
        await self._calls.ec2(
            "create_tags", Resources=[machine.id], Tags=tags.as_list(tags.of_start(request))
        )
        await self._calls.ec2(
            "modify_instance_attribute",
            InstanceId=machine.id,
            Attribute="userData",
            Value=base64.b64encode(user_data(request, self._settings).encode()).decode(),
        )
        await self._under_way.make(request.operation_id, self._start_again(machine.id))
        return machine.id

    async def _start_again(self, machine_id: str) -> str:
        await self._calls.ec2("start_instances", InstanceIds=[machine_id])
        # Nothing was made that an undo would have to end.
        return ""


def _serves(machine: Machine, request: StartRequest) -> bool:
    return machine.runs and machine.operation_id == request.operation_id


def _require_possible(request: StartRequest) -> None:
    """Raise for what can never start on a machine."""
    if request.egress is not None:
        raise BackendFailure(
            FailureReason.EGRESS_UNENFORCED,
            "nothing on EC2 would hold the workspace to its list of hosts",
            undone=True,
        )
    if not request.platform_url:
        raise BackendFailure(
            FailureReason.CONFIGURATION,
            "EXTERNAL_PLATFORM_URL is not set, so that no machine would find the platform",
            undone=True,
        )
