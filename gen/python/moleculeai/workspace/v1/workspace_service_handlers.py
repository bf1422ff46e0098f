"""Generated from moleculeai/workspace/v1/workspace_service.proto by tools/protoc_gen_handlers.py: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from moleculeai.workspace.v1 import workspace_pb2
    from moleculeai.workspace.v1 import workspace_service_pb2

    from molecule_grpc.server.call import Call


class WorkspaceServiceHandlers(Protocol):
    """WorkspaceService keeps the tree of workspaces, lets agents register and find one another,
    and issues their tokens.
    """

    async def CreateWorkspace(
        self,
        request: workspace_service_pb2.CreateWorkspaceRequest,
        call: Call,
    ) -> workspace_service_pb2.CreateWorkspaceResponse:
        """CreateWorkspace adds a workspace to the caller's organisation.

        An `external` workspace without a URL answers with the connection details and a fresh token.
        A name that a live sibling has fails with ALREADY_EXISTS / WORKSPACE_NAME_TAKEN, so a retry
        never makes two.
        """
        ...

    async def ListWorkspaces(
        self,
        request: workspace_service_pb2.ListWorkspacesRequest,
        call: Call,
    ) -> workspace_service_pb2.ListWorkspacesResponse:
        """ListWorkspaces lists the live workspaces of the caller's organisation, oldest first.
        The operator sees every organisation.
        """
        ...

    async def GetWorkspace(
        self,
        request: workspace_service_pb2.GetWorkspaceRequest,
        call: Call,
    ) -> workspace_pb2.Workspace:
        """GetWorkspace returns one workspace. A removed one fails with WORKSPACE_REMOVED (410)
        unless `include_removed` is set.
        """
        ...

    async def GetWorkspaceState(
        self,
        request: workspace_service_pb2.GetWorkspaceStateRequest,
        call: Call,
    ) -> workspace_service_pb2.GetWorkspaceStateResponse:
        """GetWorkspaceState tells an agent whether it should go on. A missing or removed workspace
        answers NOT_FOUND with `deleted: true`: the agent stops.
        """
        ...

    async def UpdateWorkspace(
        self,
        request: workspace_service_pb2.UpdateWorkspaceRequest,
        call: Call,
    ) -> workspace_service_pb2.UpdateWorkspaceResponse:
        """UpdateWorkspace changes the fields that are present, all or none. Repeating it is harmless."""
        ...

    async def DeleteWorkspace(
        self,
        request: workspace_service_pb2.DeleteWorkspaceRequest,
        call: Call,
    ) -> workspace_service_pb2.DeleteWorkspaceResponse:
        """DeleteWorkspace removes a workspace and everything below it. With live children and without
        `confirm` it changes nothing and answers `confirmation_required` (409). Repeating it is
        harmless. `purge` also deletes the rows; delegation history stays.
        """
        ...

    async def Register(
        self,
        request: workspace_service_pb2.RegisterRequest,
        call: Call,
    ) -> workspace_service_pb2.RegisterResponse:
        """Register announces an agent: its card, and how it can be reached. Repeating it refreshes both
        and never rotates the token. Fails with WORKSPACE_REMOVED for a removed workspace.
        """
        ...

    async def Heartbeat(
        self,
        request: workspace_service_pb2.HeartbeatRequest,
        call: Call,
    ) -> workspace_service_pb2.HeartbeatResponse:
        """Heartbeat is a workspace's sign of life; it moves the status by the rules of the registry.
        Fails with NOT_FOUND when the workspace is gone, so that an agent can stop.
        """
        ...

    async def UpdateCard(
        self,
        request: workspace_service_pb2.UpdateCardRequest,
        call: Call,
    ) -> workspace_service_pb2.UpdateCardResponse:
        """UpdateCard replaces the agent's card."""
        ...

    async def Discover(
        self,
        request: workspace_service_pb2.DiscoverRequest,
        call: Call,
    ) -> workspace_service_pb2.DiscoverResponse:
        """Discover tells a caller where a related workspace listens. The caller is named by `caller_id`
        or the `X-Workspace-ID` header. Unrelated: NOT_RELATED (403); not reachable now:
        PEER_UNAVAILABLE (503).
        """
        ...

    async def ListPeers(
        self,
        request: workspace_service_pb2.ListPeersRequest,
        call: Call,
    ) -> workspace_service_pb2.ListPeersResponse:
        """ListPeers lists siblings, children and parent."""
        ...

    async def CheckAccess(
        self,
        request: workspace_service_pb2.CheckAccessRequest,
        call: Call,
    ) -> workspace_service_pb2.CheckAccessResponse:
        """CheckAccess answers whether two workspaces may talk. Symmetric; unknown ids answer no."""
        ...

    async def ListTokens(
        self,
        request: workspace_service_pb2.ListTokensRequest,
        call: Call,
    ) -> workspace_service_pb2.ListTokensResponse:
        """ListTokens lists a workspace's live tokens, newest first, without their secrets."""
        ...

    async def CreateToken(
        self,
        request: workspace_service_pb2.CreateTokenRequest,
        call: Call,
    ) -> workspace_service_pb2.CreateTokenResponse:
        """CreateToken mints a token; the secret is in the answer and nowhere else. At most 50 are live."""
        ...

    async def RevokeToken(
        self,
        request: workspace_service_pb2.RevokeTokenRequest,
        call: Call,
    ) -> workspace_service_pb2.RevokeTokenResponse:
        """RevokeToken ends a token at once, on every server, and the streams it opened within 5 s."""
        ...

    async def GetExternalConnection(
        self,
        request: workspace_service_pb2.GetExternalConnectionRequest,
        call: Call,
    ) -> workspace_service_pb2.GetExternalConnectionResponse:
        """GetExternalConnection shows how to connect an external agent, without a token."""
        ...

    async def RotateExternalCredentials(
        self,
        request: workspace_service_pb2.RotateExternalCredentialsRequest,
        call: Call,
    ) -> workspace_service_pb2.RotateExternalCredentialsResponse:
        """RotateExternalCredentials revokes every token of an external workspace and mints one, in one
        transaction. Id, delegations and inbox stay.
        """
        ...
