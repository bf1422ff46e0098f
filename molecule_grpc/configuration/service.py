"""The RPCs of WorkspaceService about configuration, and the use cases that serve them."""

from __future__ import annotations

from uuid import UUID

from google.protobuf.descriptor import ServiceDescriptor
from moleculeai.workspace.v1 import configuration_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.auth.principal import Principal, Role
from molecule_grpc.configuration import convert
from molecule_grpc.configuration.agents import Agents
from molecule_grpc.configuration.configuration import Configuration
from molecule_grpc.kernel.ids import parse_id
from molecule_grpc.kernel.text import clean
from molecule_grpc.server.call import Call


class ConfigurationService:
    """Serves what WorkspaceService has of configuration."""

    def __init__(self, configuration: Configuration, agents: Agents) -> None:
        self._configuration = configuration
        self._agents = agents

    async def GetConfig(
        self, request: configuration_pb2.GetConfigRequest, call: Call
    ) -> configuration_pb2.GetConfigResponse:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        found = await self._configuration.settings(workspace_id, _within(call.principal))
        return await convert.settings(found, call)

    async def PatchConfig(
        self, request: configuration_pb2.PatchConfigRequest, call: Call
    ) -> configuration_pb2.PatchConfigResponse:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        text = await convert.patch(request.data, call)
        await self._configuration.merge(workspace_id, _within(call.principal), text)
        return configuration_pb2.PatchConfigResponse(status="updated")

    async def GetModel(
        self, request: configuration_pb2.GetModelRequest, call: Call
    ) -> configuration_pb2.GetModelResponse:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        found = await self._configuration.model(workspace_id, _within(call.principal))
        return configuration_pb2.GetModelResponse(model=found.model, source=found.source)

    async def SetModel(
        self, request: configuration_pb2.SetModelRequest, call: Call
    ) -> configuration_pb2.SetModelResponse:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        within = _within(call.principal)
        await self._configuration.choose_model(workspace_id, within, request.model)
        return configuration_pb2.SetModelResponse(
            status="saved" if request.model else "cleared", model=request.model
        )

    async def GetBudget(
        self, request: configuration_pb2.GetBudgetRequest, call: Call
    ) -> configuration_pb2.Budget:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        found = await self._configuration.budget(workspace_id, _within(call.principal))
        return convert.budget(found)

    async def SetBudget(
        self, request: configuration_pb2.SetBudgetRequest, call: Call
    ) -> configuration_pb2.Budget:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        cents = convert.cents(request.budget_limit)
        done = await self._configuration.limit_budget(workspace_id, _within(call.principal), cents)
        return convert.budget(done)

    async def GetUsage(
        self, request: configuration_pb2.GetUsageRequest, call: Call
    ) -> configuration_pb2.GetUsageResponse:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        found = await self._configuration.usage(workspace_id, _within(call.principal))
        return convert.usage(found)

    async def GetAgent(
        self, request: configuration_pb2.GetAgentRequest, call: Call
    ) -> configuration_pb2.AssignedAgent:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        return convert.agent(await self._agents.get(workspace_id, _within(call.principal)))

    async def AssignAgent(
        self, request: configuration_pb2.AssignAgentRequest, call: Call
    ) -> configuration_pb2.AssignedAgent:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        within = _within(call.principal)
        return convert.agent(await self._agents.assign(workspace_id, within, request.model))

    async def ReplaceAgent(
        self, request: configuration_pb2.ReplaceAgentRequest, call: Call
    ) -> configuration_pb2.AssignedAgent:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        done = await self._agents.replace(
            workspace_id, _within(call.principal), request.model, clean(request.reason)
        )
        return convert.agent(done)

    async def RemoveAgent(
        self, request: configuration_pb2.RemoveAgentRequest, call: Call
    ) -> configuration_pb2.RemoveAgentResponse:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        within = _within(call.principal)
        done = await self._agents.remove(workspace_id, within, clean(request.reason))
        return configuration_pb2.RemoveAgentResponse(status="removed", agent_id=str(done.id))

    async def MoveAgent(
        self, request: configuration_pb2.MoveAgentRequest, call: Call
    ) -> configuration_pb2.AssignedAgent:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        target_id = parse_id(request.target_workspace_id, "target_workspace_id")
        done = await self._agents.move(workspace_id, _within(call.principal), target_id)
        return convert.agent(done)


def handlers(service: ConfigurationService) -> tuple[ServiceDescriptor, object]:
    """The descriptor of WorkspaceService with the handlers of this slice."""
    return pb.DESCRIPTOR.services_by_name["WorkspaceService"], service


def _within(principal: Principal) -> UUID | None:
    """The only organisation whose workspaces a caller may see; None for all."""
    return None if principal.role is Role.OPERATOR else principal.organization_id
