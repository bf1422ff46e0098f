"""What workspaces are configured with: settings, model, budget, assigned agent; and their use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format, struct_pb2
from moleculeai.workspace.v1 import configuration_pb2 as pb

from molecule_grpc.client.connection import Connection


class Configuration:
    """Calls about configuration.

    Args:
        connection: with an operator's or an organisation's token. That of the workspace may do all
            but limit its budget and move its agent.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def settings(self, workspace_id: str) -> dict[str, Any]:
        """What the canvas and its users keep about a workspace."""
        request = pb.GetConfigRequest(workspace_id=workspace_id)
        found = await self._connection.call(
            self._connection.workspaces.GetConfig, request, retry=True
        )
        return json_format.MessageToDict(found.data)

    async def set_settings(self, workspace_id: str, values: Mapping[str, Any]) -> None:
        """Set these keys, each to its whole new value; the others stay.

        Raises:
            InvalidArgument: a value is no JSON; BODY_TOO_LARGE: more than 256 KiB, or 512 KiB with
                what is stored.
        """
        data = struct_pb2.Struct()
        data.update(values)
        value = struct_pb2.Value(struct_value=data)
        request = pb.PatchConfigRequest(workspace_id=workspace_id, data=value)
        await self._connection.call(self._connection.workspaces.PatchConfig, request, retry=True)

    async def model(self, workspace_id: str) -> pb.GetModelResponse:
        """The model that the agent is started with, and who says so."""
        request = pb.GetModelRequest(workspace_id=workspace_id)
        return await self._connection.call(
            self._connection.workspaces.GetModel, request, retry=True
        )

    async def set_model(self, workspace_id: str, model: str) -> None:
        """Choose the model; a running agent is restarted. Empty withdraws the choice.

        Raises:
            FailedPrecondition: SECRETS_KEY_MISSING.
        """
        request = pb.SetModelRequest(workspace_id=workspace_id, model=model)
        await self._connection.call(self._connection.workspaces.SetModel, request, retry=True)

    async def budget(self, workspace_id: str) -> pb.Budget:
        """A workspace's monthly limit and its spending of this month, in US cents."""
        request = pb.GetBudgetRequest(workspace_id=workspace_id)
        return await self._connection.call(
            self._connection.workspaces.GetBudget, request, retry=True
        )

    async def set_budget(self, workspace_id: str, cents: float | None) -> pb.Budget:
        """Limit what a workspace may spend in a month, in US cents; None lifts the limit."""
        limit = struct_pb2.Value()
        if cents is None:
            limit.null_value = struct_pb2.NULL_VALUE
        else:
            limit.number_value = cents
        request = pb.SetBudgetRequest(workspace_id=workspace_id, budget_limit=limit)
        return await self._connection.call(
            self._connection.workspaces.SetBudget, request, retry=True
        )

    async def usage(self, workspace_id: str) -> pb.GetUsageResponse:
        """The tokens of a workspace in the present day of UTC."""
        request = pb.GetUsageRequest(workspace_id=workspace_id)
        return await self._connection.call(
            self._connection.workspaces.GetUsage, request, retry=True
        )

    async def agent(self, workspace_id: str) -> pb.AssignedAgent:
        """The agent that is assigned to a workspace. Raises `NotFound`: AGENT_NOT_FOUND."""
        request = pb.GetAgentRequest(workspace_id=workspace_id)
        return await self._connection.call(
            self._connection.workspaces.GetAgent, request, retry=True
        )

    async def assign_agent(self, workspace_id: str, model: str) -> pb.AssignedAgent:
        """Assign an agent. Raises `AlreadyExists`: AGENT_ASSIGNED."""
        request = pb.AssignAgentRequest(workspace_id=workspace_id, model=model)
        return await self._connection.call(
            self._connection.workspaces.AssignAgent, request, retry=False
        )

    async def replace_agent(
        self, workspace_id: str, model: str, *, reason: str = ""
    ) -> pb.AssignedAgent:
        """Assign another agent. Raises `NotFound`: AGENT_NOT_FOUND."""
        request = pb.ReplaceAgentRequest(workspace_id=workspace_id, model=model, reason=reason)
        return await self._connection.call(
            self._connection.workspaces.ReplaceAgent, request, retry=True
        )

    async def remove_agent(self, workspace_id: str, *, reason: str = "") -> pb.RemoveAgentResponse:
        """End the assignment of an agent. Raises `NotFound`: AGENT_NOT_FOUND."""
        request = pb.RemoveAgentRequest(workspace_id=workspace_id, reason=reason)
        return await self._connection.call(
            self._connection.workspaces.RemoveAgent, request, retry=False
        )

    async def move_agent(self, workspace_id: str, target_id: str) -> pb.AssignedAgent:
        """Assign an agent to another workspace of the same organisation.

        Raises:
            NotFound: AGENT_NOT_FOUND, or there is no such workspace.
            AlreadyExists: AGENT_ASSIGNED: the target has an agent.
        """
        request = pb.MoveAgentRequest(workspace_id=workspace_id, target_workspace_id=target_id)
        return await self._connection.call(
            self._connection.workspaces.MoveAgent, request, retry=False
        )
