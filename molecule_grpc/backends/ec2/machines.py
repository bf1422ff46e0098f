"""Machines of this installation: finding them, and waiting until they are what they shall be.

A stopped machine is to a workspace what volumes without a container are on Docker: its disk stays,
and the next start uses the machine again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from botocore.exceptions import ClientError

from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason
from molecule_grpc.backends.contract.workloads import Owned, Resource
from molecule_grpc.backends.ec2 import tags
from molecule_grpc.backends.ec2.calls import Calls
from molecule_grpc.backends.ec2.failures import WRONG_STATE, by_state_reason, code_of, is_missing
from molecule_grpc.backends.ec2.tags import Json

PENDING: Final = "pending"
RUNNING: Final = "running"
STOPPING: Final = "stopping"
STOPPED: Final = "stopped"
# Of a machine that costs something, now or for its disk.
_THERE: Final = (PENDING, RUNNING, STOPPING, STOPPED)
_RUNS: Final = frozenset({PENDING, RUNNING})
_LEAVING: Final = "shutting-down"
_GONE: Final = "terminated"
_PAGE: Final = 1000
# A new machine may be unknown to the lists for so many looks.
_LOOKS: Final = 30


class Machine(NamedTuple):
    """A machine as EC2 describes it.

    Args:
        made_by: the operation that made the machine.
        operation_id: the operation that last started it.
        why: EC2's code for its last change of state.
    """

    id: str
    state: str
    zone: str
    workspace_id: UUID | None
    organization_id: UUID | None
    made_by: UUID | None
    operation_id: UUID | None
    runtime: str
    private_address: str
    public_address: str
    launched_at: datetime
    why: str

    @property
    def runs(self) -> bool:
        """Whether the machine runs or is about to."""
        return self.state in _RUNS


class Machines:
    """The machines that bear this installation's id, and no others."""

    def __init__(self, calls: Calls, installation: str, *, poll: float) -> None:
        self._calls = calls
        self._installation = installation
        self._poll = poll

    async def find(self, resource: Resource) -> list[Machine]:
        """A workspace's machines: running before stopped, the newest first."""
        wanted = {tags.WORKSPACE: str(resource.workspace_id)}
        if resource.operation_id is not None:
            wanted[tags.OPERATION] = str(resource.operation_id)
        filters = tags.as_filters(wanted)
        if resource.resource_id:
            filters.append({"Name": "instance-id", "Values": [resource.resource_id]})
        found = await self._list(filters, _THERE)
        return sorted(found, key=lambda each: (each.runs, each.launched_at), reverse=True)

    async def owned(self) -> list[Owned]:
        """Every machine. One that rests has no resource id, as volumes without a workload."""
        return [
            Owned(
                workspace_id=each.workspace_id,
                resource_id=each.id if each.runs else "",
                organization_id=each.organization_id,
                operation_id=each.operation_id,
                running=each.runs,
                created_at=each.launched_at,
            )
            for each in await self._list([], _THERE)
            if each.workspace_id is not None
        ]

    async def until_running(self, machine_id: str) -> Machine:
        """Wait until a machine runs.

        Raises:
            BackendFailure: the machine ended instead, for the reason that EC2 gives.
        """
        unseen = 0
        while True:
            found = await self._look([machine_id], _GONE)
            if not found:
                unseen += 1
                if unseen > _LOOKS:
                    raise BackendFailure(FailureReason.EXITED, "the machine is gone")
            elif found[0].state == RUNNING:
                return found[0]
            elif found[0].state != PENDING:
                raise by_state_reason(found[0].why)
            await asyncio.sleep(self._poll)

    async def stop(self, machines: Sequence[Machine]) -> None:
        """Let machines rest, and wait until they do. Their disks stay."""
        running = [each.id for each in machines if each.runs]
        if running:
            await self._stop_or_end(running)
        await self._until([each.id for each in machines], {STOPPED})

    async def end(self, machine_ids: Sequence[str]) -> None:
        """Terminate machines, which deletes their disks, and look until they are gone."""
        if machine_ids:
            await self._calls.ec2("terminate_instances", InstanceIds=list(machine_ids))
            await self._until(machine_ids, set())

    async def _stop_or_end(self, machine_ids: Sequence[str]) -> None:
        try:
            await self._calls.ec2("stop_instances", InstanceIds=list(machine_ids))
        except ClientError as error:
            # A machine that is still `pending` cannot be stopped yet; the caller asks again.
            if code_of(error) == WRONG_STATE:
                raise BackendFailure(
                    FailureReason.ENGINE,
                    "the machine cannot be stopped yet",
                    detail=str(error),
                    retryable=True,
                ) from error
            if not is_missing(error):
                raise

    async def _until(self, machine_ids: Collection[str], states: Collection[str]) -> None:
        """Wait until each of these is in one of these states, or gone."""
        while True:
            found = await self._look(machine_ids) if machine_ids else []
            if all(each.state in states for each in found):
                return
            await asyncio.sleep(self._poll)

    async def _look(self, machine_ids: Collection[str], *states: str) -> list[Machine]:
        """These machines, as far as they are not gone or in one of these states besides."""
        named = [{"Name": "instance-id", "Values": list(machine_ids)}]
        return await self._list(named, (*_THERE, _LEAVING, *states))

    async def _list(self, filters: Sequence[Json], states: Sequence[str]) -> list[Machine]:
        answer = await self._calls.pages(
            "describe_instances",
            "Reservations",
            Filters=[
                *tags.as_filters({tags.INSTALLATION: self._installation}),
                {"Name": "instance-state-name", "Values": list(states)},
                *filters,
            ],
            MaxResults=_PAGE,
        )
        return [_read(each) for group in answer for each in group["Instances"]]


def _read(described: Json) -> Machine:
    named = tags.read(described.get("Tags", []))
    return Machine(
        id=described["InstanceId"],
        state=described["State"]["Name"],
        zone=described.get("Placement", {}).get("AvailabilityZone", ""),
        workspace_id=tags.id_of(named, tags.WORKSPACE),
        organization_id=tags.id_of(named, tags.ORGANIZATION),
        made_by=tags.id_of(named, tags.MADE_BY),
        operation_id=tags.id_of(named, tags.OPERATION),
        runtime=named.get(tags.RUNTIME, ""),
        private_address=described.get("PrivateIpAddress", ""),
        public_address=described.get("PublicIpAddress", ""),
        launched_at=described["LaunchTime"],
        why=described.get("StateReason", {}).get("Code", ""),
    )
