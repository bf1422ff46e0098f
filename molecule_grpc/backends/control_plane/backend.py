"""The control plane, which runs each workspace on a machine of its own."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from molecule_grpc.backends.closed import Closed
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
from molecule_grpc.backends.control_plane import answers
from molecule_grpc.backends.control_plane.client import ControlPlaneClient

_MAX_CONSOLE_BYTES: Final = 256 * 1024


class ControlPlane(Closed):
    """Starts and ends machines over HTTP.

    A start says its operation in the header `Idempotency-Key`. Whether a request that was not
    answered took effect is asked by a look at the workspace's status; no second request is sent
    for a start whose outcome is unknown.

    Args:
        organization: of this installation, as the control plane knows it.
        platform_url: where machines reach this platform.
        console_token: bearer token for consoles; empty for the shared secret.
    """

    name = BackendName.CONTROL_PLANE
    capabilities = frozenset({Capability.CONSOLE})

    def __init__(
        self,
        client: ControlPlaneClient,
        *,
        organization: str,
        platform_url: str,
        console_token: str = "",
    ) -> None:
        self._client = client
        self._organization = organization
        self._platform_url = platform_url
        self._console_token = console_token

    async def start(self, request: StartRequest, *, deadline: float) -> Started:
        """A new machine. `reset_session` changes nothing: each start has a fresh disk."""
        answer = await self._client.ask(
            "POST",
            "/cp/workspaces/provision",
            deadline=deadline,
            headers={"idempotency-key": str(request.operation_id)},
            body={
                "org_id": self._organization,
                "workspace_id": str(request.workspace_id),
                "runtime": request.runtime,
                "tier": request.tier,
                "platform_url": request.platform_url or self._platform_url,
                "env": dict(request.env),
            },
        )
        if not answer.success:
            raise answers.failure(answer.status, answer.body)
        return answers.started(answer.body)

    async def stop(self, resource: Resource, *, deadline: float) -> None:
        """End a machine, by its own id. Without one, and where none is found, nothing is sent."""
        instance_id = resource.resource_id
        if not instance_id and resource.operation_id is not None:
            instance_id = await self._instance_of(resource, deadline)
        if not instance_id:
            return
        answer = await self._client.ask(
            "DELETE",
            f"/cp/workspaces/{resource.workspace_id}",
            deadline=deadline,
            query={"instance_id": instance_id},
        )
        if not answer.success and not answers.says_gone(answer.status, answer.body):
            raise answers.failure(answer.status, answer.body)

    async def status(self, resource: Resource, *, deadline: float) -> Status:
        """The machine's status. A workspace that was never started is absent without a call."""
        if not resource.resource_id and resource.operation_id is None:
            return Absent()
        try:
            answer = await self._client.ask(
                "GET",
                f"/cp/workspaces/{resource.workspace_id}/status",
                deadline=deadline,
                query={"instance_id": resource.resource_id} if resource.resource_id else None,
                headers=_operation(resource),
            )
        except BackendFailure as failed:
            return Unknown(str(failed))
        if answers.says_gone(answer.status, answer.body):
            return Absent()
        if answer.status != 200:
            return Unknown(f"HTTP {answer.status}")
        return answers.status_of(answer.body, resource)

    async def remove_volumes(self, workspace_id: UUID, *, deadline: float) -> None:
        """A machine's disk goes with the machine."""

    async def list_owned(self, *, deadline: float) -> list[Owned]:
        """The control plane lists nothing: rows and operations hold every machine's id."""
        self._refuse("a list of what runs")

    async def console(self, resource: Resource, *, deadline: float) -> str:
        answer = await self._client.ask(
            "GET",
            f"/cp/admin/workspaces/{resource.workspace_id}/console",
            deadline=deadline,
            token=self._console_token,
            most=_MAX_CONSOLE_BYTES,
        )
        if not answer.success:
            raise answers.failure(answer.status, answer.body)
        output = (answers.parsed(answer.body) or {}).get("output")
        if not isinstance(output, str):
            raise BackendFailure(
                FailureReason.ENGINE, "the control plane's answer cannot be understood"
            )
        return output

    async def close(self) -> None:
        await self._client.close()

    async def _instance_of(self, resource: Resource, deadline: float) -> str:
        """The id of the machine that an operation has started, if the control plane tells it."""
        found = await self.status(resource, deadline=deadline)
        if isinstance(found, Running | Stopped):
            return found.resource_id
        if isinstance(found, Unknown):
            raise BackendFailure(
                FailureReason.ENGINE,
                "the control plane does not say what it has started",
                detail=found.detail,
                retryable=True,
            )
        return ""


def _operation(resource: Resource) -> dict[str, str]:
    if resource.operation_id is None:
        return {}
    return {"x-molecule-operation-id": str(resource.operation_id)}
