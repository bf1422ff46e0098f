"""Agents register and find one another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import asyncpg
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc import egress
from molecule_grpc.auth import store as tokens
from molecule_grpc.auth.principal import Principal, Role
from molecule_grpc.auth.tokens import mint
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.directory import WorkspaceInfo
from molecule_grpc.kernel.errors import Aborted, Invalid, Unauthenticated, Unavailable
from molecule_grpc.kernel.ids import parse_id
from molecule_grpc.server.call import Call
from molecule_grpc.settings.settings import Settings
from molecule_grpc.workspace import convert, drafts, rules
from molecule_grpc.workspace.directory import Directory
from molecule_grpc.workspace.heartbeats import Heartbeats, read_beat
from molecule_grpc.workspace.refusals import missing, removed
from molecule_grpc.workspace.scope import scope
from molecule_grpc.workspace.status import Status
from molecule_grpc.workspace.store import registry, tree, workspaces

BeatDelegations = Callable[[UUID, list[str]], Awaitable[None]]

CALLER_HEADER = "x-workspace-id"


class Registry:
    """Keeps what agents announce, and tells who is where.

    Args:
        beat_delegations: told which delegations an agent says it works on.
    """

    def __init__(
        self,
        pool: Pool,
        settings: Settings,
        directory: Directory,
        heartbeats: Heartbeats,
        beat_delegations: BeatDelegations,
    ) -> None:
        self._pool = pool
        self._settings = settings
        self._directory = directory
        self._heartbeats = heartbeats
        self._beat_delegations = beat_delegations
        self._egress = egress.Mode.of(settings.deployment)

    async def register(self, request: pb.RegisterRequest, call: Call) -> pb.RegisterResponse:
        """Store what an agent announces; give it a token if none is live."""
        workspace_id, principal = parse_id(request.id, "id"), call.principal
        row = await registry.registration(self._pool, workspace_id)
        self._admit(principal, workspace_id, row)
        card = convert.card_text(request.agent_card)
        url, mode = await self._reach(request, row)
        async with self._pool.acquire() as conn, conn.transaction():
            if row is None and not await workspaces.insert(
                conn, self._newcomer(workspace_id, principal)
            ):
                raise Aborted("the workspace was created meanwhile, try again")
            stored = await registry.register(
                conn, workspace_id, card=card, url=url, mode=mode, secret=mint().text
            )
            if stored is None:  # removed since it was looked up
                raise removed()
            token = await self._first_token(conn, workspace_id, principal)
        return pb.RegisterResponse(
            status="registered",
            delivery_mode=convert.mode(mode),
            auth_token=token,
            platform_inbound_secret=stored,
        )

    async def heartbeat(self, request: pb.HeartbeatRequest) -> pb.HeartbeatResponse:
        """Apply a heartbeat that came by whatever way, its sender and fields already checked."""
        beat = read_beat(request)
        if request.active_delegations:
            done, _ = await asyncio.gather(
                self._heartbeats.beat(beat),
                self._beat_delegations(beat.workspace_id, list(request.active_delegations)),
            )
        else:
            done = await self._heartbeats.beat(beat)
        return pb.HeartbeatResponse(
            status="ok",
            platform_inbound_secret=done.inbound_secret,
            workspace_status=convert.status(done.after),
        )

    async def update_card(self, request: pb.UpdateCardRequest) -> pb.UpdateCardResponse:
        """Replace the agent's card."""
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        card = convert.card_text(request.agent_card)
        if not await registry.update_card(self._pool, workspace_id, card):
            raise missing()
        return pb.UpdateCardResponse(status="updated")

    async def discover(self, request: pb.DiscoverRequest, call: Call) -> pb.DiscoverResponse:
        """Where a related workspace listens."""
        target_id = parse_id(request.target_id, "target_id")
        caller_id = _caller(request.caller_id or call.metadata.get(CALLER_HEADER, ""), call)
        await self._require_own(call.principal, caller_id)
        target = await self._directory.require_reachable(caller_id, target_id)
        url = await self._listening_at(target)
        return pb.DiscoverResponse(
            id=str(target.id),
            url=url,
            name=target.name,
            status=convert.status(target.status),
            role=target.role,
        )

    async def peers(self, request: pb.ListPeersRequest) -> pb.ListPeersResponse:
        """Siblings, children and parent."""
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        if await workspaces.status_of(self._pool, workspace_id) in (None, "removed"):
            raise missing()
        rows = await tree.peers(self._pool, workspace_id, request.q.replace("\x00", ""))
        return pb.ListPeersResponse(peers=[convert.peer(row) for row in rows])

    async def check_access(self, request: pb.CheckAccessRequest) -> pb.CheckAccessResponse:
        """Whether two workspaces may talk."""
        allowed = await self._directory.can_communicate(
            parse_id(request.caller_id, "caller_id"), parse_id(request.target_id, "target_id")
        )
        return pb.CheckAccessResponse(allowed=allowed)

    def _admit(self, principal: Principal, workspace_id: UUID, row: asyncpg.Record | None) -> None:
        """Raise unless this caller may register this workspace."""
        stranger = principal.role is Role.ANONYMOUS and principal.revoked_workspace != workspace_id
        if stranger:
            # Before anything tells whether the row exists.
            open_to_all = self._settings.auth.open_registration
            if row is None or row["has_token"] or not open_to_all:
                raise _no_token()
        if row is None and not principal.administers:
            raise missing()
        if row is not None and row["status"] == "removed":
            raise removed()

    async def _reach(
        self, request: pb.RegisterRequest, row: asyncpg.Record | None
    ) -> tuple[str, str]:
        """URL and mode in force. In poll mode a URL means nothing and is not kept."""
        remote = rules.is_remote(request.url)
        stated = drafts.stated_mode(request.delivery_mode) or (rules.POLL if remote else "")
        mode = rules.effective_mode(
            stated, row["delivery_mode"] if row else None, row["runtime"] if row else None
        )
        if mode == rules.POLL:
            return "", mode
        url = "" if remote else request.url.strip()
        if not url:
            raise Invalid("url is required for push-mode workspaces", field="url")
        await egress.resolve_checked(url, self._egress, localhost_by_name=True)
        return url, mode

    def _newcomer(self, workspace_id: UUID, principal: Principal) -> workspaces.WorkspaceDraft:
        return workspaces.WorkspaceDraft(
            id=workspace_id,
            organization_id=scope(principal) or workspaces.DEFAULT_ORGANIZATION,
            name=str(workspace_id),
            tier=self._settings.deployment.default_tier,
            status=Status.AWAITING_AGENT,
            runtime=rules.EXTERNAL,
        )

    async def _first_token(self, conn: Connection, workspace_id: UUID, principal: Principal) -> str:
        """A token where none is live; empty elsewhere, since registering never rotates."""
        if await tokens.count_workspace_tokens(conn, workspace_id):
            if principal.role is Role.ANONYMOUS:  # somebody was faster
                raise _no_token()
            return ""
        _, secret = await tokens.mint_workspace_token(conn, workspace_id)
        return secret.text

    async def _require_own(self, principal: Principal, caller_id: UUID) -> None:
        """Raise unless the principal may speak for this workspace."""
        if principal.role is Role.WORKSPACE and principal.workspace_id != caller_id:
            raise Unauthenticated("invalid workspace auth token")
        if principal.role is Role.ORGANIZATION:
            caller = await self._directory.lookup(caller_id)
            if caller is None or caller.organization_id != principal.organization_id:
                raise missing()

    async def _listening_at(self, target: WorkspaceInfo) -> str:
        """The URL to call; empty when messages go through the platform.

        Raises:
            Unavailable: PEER_UNAVAILABLE: there is nothing to call now.
        """
        if not rules.reachable(target.status, target.delivery_mode, target.url):
            raise _peer_unavailable(target, f"workspace is {target.status}")
        if target.delivery_mode == rules.POLL:
            return ""
        try:
            await egress.resolve_checked(target.url, self._egress, localhost_by_name=True)
        except Invalid as error:
            raise _peer_unavailable(target, "workspace url failed its safety check") from error
        return target.url


def _caller(stated: str, call: Call) -> UUID:
    """The workspace on whose behalf the call is made."""
    if stated:
        return parse_id(stated, "X-Workspace-ID")
    if call.principal.workspace_id is None:
        raise Invalid("X-Workspace-ID header is required", field="caller_id")
    return call.principal.workspace_id


def _no_token() -> Unauthenticated:
    return Unauthenticated("missing workspace auth token")


def _peer_unavailable(target: WorkspaceInfo, message: str) -> Unavailable:
    return Unavailable(
        message,
        reason="PEER_UNAVAILABLE",
        metadata={"status": target.status},
        body={"status": target.status},
    )
