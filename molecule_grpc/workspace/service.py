"""WorkspaceService: every RPC and the use case that serves it."""

from __future__ import annotations

from google.protobuf.descriptor import ServiceDescriptor
from moleculeai.workspace.v1 import viewport_pb2, workspace_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.auth.tokens import TokenTerms
from molecule_grpc.kernel.ids import parse_id
from molecule_grpc.kernel.protos import timestamp
from molecule_grpc.server.call import Call
from molecule_grpc.settings.edge import EdgeSettings
from molecule_grpc.workspace import convert
from molecule_grpc.workspace.connecting.convert import connection
from molecule_grpc.workspace.connecting.details import platform_url
from molecule_grpc.workspace.creating import Creation
from molecule_grpc.workspace.lifecycle import Lifecycle
from molecule_grpc.workspace.quota_report import QuotaReports
from molecule_grpc.workspace.registry.discovery import Discovery
from molecule_grpc.workspace.registry.heartbeats import Heartbeats
from molecule_grpc.workspace.registry.registration import Registration
from molecule_grpc.workspace.removing import Collapse
from molecule_grpc.workspace.scope import scope
from molecule_grpc.workspace.store.viewport import View
from molecule_grpc.workspace.tokens import Tokens
from molecule_grpc.workspace.tree.directory import Directory
from molecule_grpc.workspace.viewport import Viewports

_PEERS_LISTED = 500
_SHOWN_ONCE = "store this token now: it is not shown again"
_HTTP_CONFLICT = 409
_NAMES_LISTED = 1000


class WorkspaceService:
    """Serves `moleculeai.workspace.v1.WorkspaceService`: requests to values and back.

    Args:
        edge: how this platform is reached, for the connection details of agents.
    """

    def __init__(
        self,
        *,
        edge: EdgeSettings,
        directory: Directory,
        creation: Creation,
        lifecycle: Lifecycle,
        collapse: Collapse,
        registration: Registration,
        discovery: Discovery,
        heartbeats: Heartbeats,
        tokens: Tokens,
        quotas: QuotaReports,
        viewports: Viewports,
    ) -> None:
        self._edge = edge
        self._directory = directory
        self._creation = creation
        self._lifecycle = lifecycle
        self._collapse = collapse
        self._registration = registration
        self._discovery = discovery
        self._heartbeats = heartbeats
        self._tokens = tokens
        self._quotas = quotas
        self._viewports = viewports

    async def GetViewport(
        self, request: viewport_pb2.GetViewportRequest, call: Call
    ) -> viewport_pb2.Viewport:
        organization_id = convert.optional_id(request.organization_id, "organization_id")
        view = await self._viewports.get(call.principal, organization_id)
        return viewport_pb2.Viewport(x=view.x, y=view.y, zoom=view.zoom)

    async def SetViewport(
        self, request: viewport_pb2.SetViewportRequest, call: Call
    ) -> viewport_pb2.SetViewportResponse:
        view = View(request.x, request.y, request.zoom if request.HasField("zoom") else 1.0)
        organization_id = convert.optional_id(request.organization_id, "organization_id")
        await self._viewports.save(call.principal, organization_id, view)
        return viewport_pb2.SetViewportResponse(status="saved")

    async def CreateWorkspace(
        self, request: pb.CreateWorkspaceRequest, call: Call
    ) -> pb.CreateWorkspaceResponse:
        base = platform_url(self._edge, call.metadata)
        wanted = convert.new_workspace(request)
        return convert.created(await self._creation.create(call.principal, wanted, base))

    async def ListWorkspaces(
        self, request: pb.ListWorkspacesRequest, call: Call
    ) -> pb.ListWorkspacesResponse:
        page = await self._lifecycle.list_live(
            call.principal,
            after=convert.optional_id(request.after, "after"),
            limit=request.limit,
            page_token=request.page_token,
        )
        shown = await convert.workspaces(page)
        if shown.last is not None:
            call.headers["x-next-page-token"] = self._lifecycle.token_after(shown.last)
        return pb.ListWorkspacesResponse(workspaces=shown.messages)

    async def GetWorkspace(
        self, request: pb.GetWorkspaceRequest, call: Call
    ) -> workspace_pb2.Workspace:
        row, whole = await self._lifecycle.get(
            call.principal,
            parse_id(request.workspace_id, "workspace_id"),
            include_removed=request.include_removed,
        )
        return convert.workspace(row, whole=whole)

    async def GetWorkspaceState(
        self, request: pb.GetWorkspaceStateRequest, call: Call
    ) -> pb.GetWorkspaceStateResponse:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        status = await self._lifecycle.status(call.principal, workspace_id)
        return pb.GetWorkspaceStateResponse(
            workspace_id=str(workspace_id),
            status=convert.status(status),
            paused=status == "paused",
        )

    async def UpdateWorkspace(
        self, request: pb.UpdateWorkspaceRequest, call: Call
    ) -> pb.UpdateWorkspaceResponse:
        needs_restart = await self._lifecycle.update(
            call.principal,
            parse_id(request.workspace_id, "workspace_id"),
            convert.change(request),
            convert.place(request),
        )
        return pb.UpdateWorkspaceResponse(status="updated", needs_restart=needs_restart)

    async def DeleteWorkspace(
        self, request: pb.DeleteWorkspaceRequest, call: Call
    ) -> pb.DeleteWorkspaceResponse:
        done = await self._lifecycle.remove(
            call.principal,
            parse_id(request.workspace_id, "workspace_id"),
            confirmed=request.confirm,
            purge=request.purge,
        )
        call.organization_id = done.organization_id  # a purge leaves no row to look it up
        if done.unconfirmed:
            call.set_http_status(_HTTP_CONFLICT)
        return convert.removal(done)

    async def CollapseWorkspace(
        self, request: pb.CollapseWorkspaceRequest, call: Call
    ) -> pb.CollapseWorkspaceResponse:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        names = await self._collapse.collapse(workspace_id, scope(call.principal))
        return pb.CollapseWorkspaceResponse(
            status="collapsed", removed=names[:_NAMES_LISTED], removed_count=len(names)
        )

    async def Register(self, request: pb.RegisterRequest, call: Call) -> pb.RegisterResponse:
        done = await self._registration.register(call.principal, convert.announcement(request))
        return pb.RegisterResponse(
            status="registered",
            delivery_mode=convert.mode(done.delivery_mode),
            auth_token=done.auth_token,
            platform_inbound_secret=done.inbound_secret,
        )

    async def Heartbeat(self, request: pb.HeartbeatRequest, call: Call) -> pb.HeartbeatResponse:
        return convert.heartbeat_response(await self._heartbeats.beat(convert.heartbeat(request)))

    async def answer_heartbeat(self, request: pb.HeartbeatRequest) -> pb.HeartbeatResponse:
        """Answer a heartbeat that a stream carried; its sender and fields were checked."""
        return convert.heartbeat_response(await self._heartbeats.beat(convert.heartbeat(request)))

    async def UpdateCard(self, request: pb.UpdateCardRequest, call: Call) -> pb.UpdateCardResponse:
        await self._registration.update_card(
            parse_id(request.workspace_id, "workspace_id"),
            scope(call.principal),
            convert.plain(request.agent_card),
        )
        return pb.UpdateCardResponse(status="updated")

    async def Discover(self, request: pb.DiscoverRequest, call: Call) -> pb.DiscoverResponse:
        stated = request.caller_id or call.caller
        info, url = await self._discovery.discover(
            call.principal,
            parse_id(request.target_id, "target_id"),
            convert.optional_id(stated, "X-Workspace-ID"),
        )
        return pb.DiscoverResponse(
            id=str(info.id),
            url=url,
            name=info.name,
            status=convert.status(info.status),
            role=info.role,
        )

    async def ListPeers(self, request: pb.ListPeersRequest, call: Call) -> pb.ListPeersResponse:
        page = await self._directory.peers(
            parse_id(request.workspace_id, "workspace_id"),
            request.q,
            limit=request.limit or _PEERS_LISTED,
            page_token=request.page_token,
        )
        shown = await convert.peers(page)
        if shown.last is not None:
            call.headers["x-next-page-token"] = self._directory.token_after(shown.last)
        return pb.ListPeersResponse(peers=shown.messages)

    async def CheckAccess(
        self, request: pb.CheckAccessRequest, call: Call
    ) -> pb.CheckAccessResponse:
        allowed = await self._directory.can_communicate(
            parse_id(request.caller_id, "caller_id"),
            parse_id(request.target_id, "target_id"),
            within=scope(call.principal),
        )
        return pb.CheckAccessResponse(allowed=allowed)

    async def ListTokens(self, request: pb.ListTokensRequest, call: Call) -> pb.ListTokensResponse:
        page = await self._tokens.list_live(
            parse_id(request.workspace_id, "workspace_id"),
            scope(call.principal),
            limit=request.limit,
            offset=request.offset,
            page_token=request.page_token,
        )
        if page.last is not None:
            call.headers["x-next-page-token"] = self._tokens.token_after(page.last)
        return pb.ListTokensResponse(
            tokens=[convert.token(row) for row in page.rows], count=len(page.rows)
        )

    async def CreateToken(
        self, request: pb.CreateTokenRequest, call: Call
    ) -> pb.CreateTokenResponse:
        terms = TokenTerms.of(
            read_only=request.read_only,
            ttl_seconds=request.ttl_seconds,
            minted_by=call.principal.expires_at,
        )
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        row, text = await self._tokens.create(workspace_id, scope(call.principal), terms)
        return pb.CreateTokenResponse(
            auth_token=text,
            workspace_id=str(workspace_id),
            message=_SHOWN_ONCE,
            id=str(row.id),
            prefix=row.prefix,
            created_at=timestamp(row.created_at),
            read_only=row.read_only,
            expires_at=timestamp(row.expires_at),
        )

    async def RevokeToken(
        self, request: pb.RevokeTokenRequest, call: Call
    ) -> pb.RevokeTokenResponse:
        await self._tokens.revoke(
            parse_id(request.workspace_id, "workspace_id"),
            scope(call.principal),
            parse_id(request.token_id, "token_id"),
        )
        return pb.RevokeTokenResponse(status="revoked")

    async def GetExternalConnection(
        self, request: pb.GetExternalConnectionRequest, call: Call
    ) -> pb.GetExternalConnectionResponse:
        details = await self._tokens.connection(
            parse_id(request.workspace_id, "workspace_id"),
            scope(call.principal),
            platform_url(self._edge, call.metadata),
        )
        return pb.GetExternalConnectionResponse(connection=connection(details))

    async def RotateExternalCredentials(
        self, request: pb.RotateExternalCredentialsRequest, call: Call
    ) -> pb.RotateExternalCredentialsResponse:
        details = await self._tokens.rotate(
            parse_id(request.workspace_id, "workspace_id"),
            scope(call.principal),
            platform_url(self._edge, call.metadata),
            TokenTerms(expires_at=call.principal.expires_at),
        )
        return pb.RotateExternalCredentialsResponse(connection=connection(details))

    async def GetQuota(self, request: pb.GetQuotaRequest, call: Call) -> pb.GetQuotaResponse:
        report = await self._quotas.report(
            call.principal,
            convert.optional_id(request.organization_id, "organization_id"),
            convert.optional_id(request.workspace_id, "workspace_id"),
        )
        return convert.quota_report(report)


def handlers(service: WorkspaceService) -> tuple[ServiceDescriptor, object]:
    """The service's descriptor with the handlers of this slice; others have more of them."""
    return pb.DESCRIPTOR.services_by_name["WorkspaceService"], service
