"""WorkspaceService: every RPC and the use case that serves it."""

from __future__ import annotations

from moleculeai.workspace.v1 import workspace_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.db.pool import Pool
from molecule_grpc.server.call import Call
from molecule_grpc.settings.settings import Settings
from molecule_grpc.workspace.credentials import Credentials
from molecule_grpc.workspace.directory import Directory
from molecule_grpc.workspace.heartbeats import Heartbeats
from molecule_grpc.workspace.lifecycle import Lifecycle, OnPurge, Wake, nothing_kept
from molecule_grpc.workspace.registry import BeatDelegations, Registry


class WorkspaceService:
    """Serves `moleculeai.workspace.v1.WorkspaceService`.

    Args:
        beat_delegations: told which delegations an agent says it works on.
        on_remove: lets go of what others keep for removed workspaces, in the same transaction.
        on_purge: deletes what others keep of purged workspaces, in the same transaction.
        wake: told which workspaces were removed, so that their streams end at once.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        settings: Settings,
        directory: Directory,
        heartbeats: Heartbeats,
        beat_delegations: BeatDelegations,
        on_remove: OnPurge = nothing_kept,
        on_purge: OnPurge,
        wake: Wake,
    ) -> None:
        self._lifecycle = Lifecycle(
            pool, settings, directory, on_remove=on_remove, on_purge=on_purge, wake=wake
        )
        self._registry = Registry(pool, settings, directory, heartbeats, beat_delegations)
        self._credentials = Credentials(pool, settings, directory)
        # Inbox streams carry heartbeats too, and being open is a sign of life in itself.
        self.heartbeat = self._registry.heartbeat
        self.touch_present = heartbeats.touch_present

    async def CreateWorkspace(
        self, request: pb.CreateWorkspaceRequest, call: Call
    ) -> pb.CreateWorkspaceResponse:
        return await self._lifecycle.create(request, call)

    async def ListWorkspaces(
        self, request: pb.ListWorkspacesRequest, call: Call
    ) -> pb.ListWorkspacesResponse:
        return await self._lifecycle.list_live(request, call)

    async def GetWorkspace(
        self, request: pb.GetWorkspaceRequest, call: Call
    ) -> workspace_pb2.Workspace:
        return await self._lifecycle.get(request, call)

    async def GetWorkspaceState(
        self, request: pb.GetWorkspaceStateRequest, call: Call
    ) -> pb.GetWorkspaceStateResponse:
        return await self._lifecycle.state(request, call)

    async def UpdateWorkspace(
        self, request: pb.UpdateWorkspaceRequest, call: Call
    ) -> pb.UpdateWorkspaceResponse:
        return await self._lifecycle.update(request)

    async def DeleteWorkspace(
        self, request: pb.DeleteWorkspaceRequest, call: Call
    ) -> pb.DeleteWorkspaceResponse:
        return await self._lifecycle.delete(request, call)

    async def Register(self, request: pb.RegisterRequest, call: Call) -> pb.RegisterResponse:
        return await self._registry.register(request, call)

    async def Heartbeat(self, request: pb.HeartbeatRequest, call: Call) -> pb.HeartbeatResponse:
        return await self.heartbeat(request)

    async def UpdateCard(self, request: pb.UpdateCardRequest, call: Call) -> pb.UpdateCardResponse:
        return await self._registry.update_card(request)

    async def Discover(self, request: pb.DiscoverRequest, call: Call) -> pb.DiscoverResponse:
        return await self._registry.discover(request, call)

    async def ListPeers(self, request: pb.ListPeersRequest, call: Call) -> pb.ListPeersResponse:
        return await self._registry.peers(request)

    async def CheckAccess(
        self, request: pb.CheckAccessRequest, call: Call
    ) -> pb.CheckAccessResponse:
        return await self._registry.check_access(request)

    async def ListTokens(self, request: pb.ListTokensRequest, call: Call) -> pb.ListTokensResponse:
        return await self._credentials.list_live(request)

    async def CreateToken(
        self, request: pb.CreateTokenRequest, call: Call
    ) -> pb.CreateTokenResponse:
        return await self._credentials.create(request)

    async def RevokeToken(
        self, request: pb.RevokeTokenRequest, call: Call
    ) -> pb.RevokeTokenResponse:
        return await self._credentials.revoke(request)

    async def GetExternalConnection(
        self, request: pb.GetExternalConnectionRequest, call: Call
    ) -> pb.GetExternalConnectionResponse:
        return await self._credentials.connection(request, call)

    async def RotateExternalCredentials(
        self, request: pb.RotateExternalCredentialsRequest, call: Call
    ) -> pb.RotateExternalCredentialsResponse:
        return await self._credentials.rotate(request, call)
