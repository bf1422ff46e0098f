"""Create, read, update and remove workspaces."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from uuid import UUID

import asyncpg
from moleculeai.workspace.v1 import workspace_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc import egress
from molecule_grpc.auth import store as tokens
from molecule_grpc.auth.principal import Principal, Role
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.kernel.errors import Unauthenticated
from molecule_grpc.kernel.ids import parse_id
from molecule_grpc.server.call import Call
from molecule_grpc.settings.settings import Settings
from molecule_grpc.workspace import convert, drafts, placement, rules
from molecule_grpc.workspace.connection import build_connection, platform_url
from molecule_grpc.workspace.directory import Directory
from molecule_grpc.workspace.refusals import missing, removed
from molecule_grpc.workspace.scope import scope
from molecule_grpc.workspace.status import Status
from molecule_grpc.workspace.store import tree, workspaces

MAX_LISTED = 10_000
_HTTP_CONFLICT = 409

OnPurge = Callable[[Connection, list[UUID]], Awaitable[None]]
Wake = Callable[[Iterable[UUID]], None]


async def nothing_kept(conn: Connection, workspace_ids: list[UUID]) -> None:
    """Nobody keeps anything for workspaces."""


class Lifecycle:
    """A workspace's life.

    Args:
        on_remove: lets go of what others keep for removed workspaces, in the same transaction.
        on_purge: deletes what others keep of purged workspaces, in the same transaction.
        wake: told which workspaces were removed, so that their streams end at once.
    """

    def __init__(
        self,
        pool: Pool,
        settings: Settings,
        directory: Directory,
        *,
        on_remove: OnPurge = nothing_kept,
        on_purge: OnPurge,
        wake: Wake,
    ) -> None:
        self._pool = pool
        self._settings = settings
        self._directory = directory
        self._on_remove = on_remove
        self._on_purge = on_purge
        self._wake = wake
        self._egress = egress.Mode.of(settings.deployment)

    async def create(
        self, request: pb.CreateWorkspaceRequest, call: Call
    ) -> pb.CreateWorkspaceResponse:
        """Add a workspace; an external one without a URL is told how to connect."""
        home = placement.home(request.organization_id, scope(call.principal))
        draft = drafts.draft(request, home, self._settings.deployment.default_tier)
        if draft.url:
            await egress.resolve_checked(draft.url, self._egress, localhost_by_name=True)
        response = pb.CreateWorkspaceResponse(
            id=str(draft.id),
            status=convert.status(draft.status),
            external=draft.runtime == rules.EXTERNAL,
            awareness_namespace=f"workspace:{draft.id}",
            workspace_access="none",
        )
        base = platform_url(self._settings.edge, call.metadata)
        async with self._pool.acquire() as conn, conn.transaction():
            await placement.require_room(conn, draft)
            await workspaces.insert(conn, draft)
            if request.HasField("canvas"):
                await workspaces.place(conn, draft.id, drafts.first_place(request))
            if draft.status is Status.AWAITING_AGENT:
                _, secret = await tokens.mint_workspace_token(conn, draft.id)
                response.connection.CopyFrom(build_connection(base, str(draft.id), secret.text))
        return response

    async def list_live(
        self, request: pb.ListWorkspacesRequest, call: Call
    ) -> pb.ListWorkspacesResponse:
        """Live workspaces, oldest first."""
        organization_id = scope(call.principal)
        after: asyncpg.Record | None = None
        if request.after:
            cursor = parse_id(request.after, "after")
            after = await workspaces.get(self._pool, cursor, organization_id)
            if after is None:
                raise missing()
        rows = await workspaces.list_live(
            self._pool, organization_id, after=after, limit=request.limit or MAX_LISTED
        )
        return pb.ListWorkspacesResponse(
            workspaces=[convert.workspace(row, whole=True) for row in rows]
        )

    async def get(self, request: pb.GetWorkspaceRequest, call: Call) -> workspace_pb2.Workspace:
        """One workspace: whole for itself and its administrators, a glance for others."""
        workspace_id, principal = parse_id(request.workspace_id, "workspace_id"), call.principal
        whole = principal.administers or principal.workspace_id == workspace_id
        if not whole:
            await self._require_glance(principal, workspace_id)
        row = await workspaces.get(self._pool, workspace_id, scope(principal))
        if row is None:
            raise missing()
        if row["status"] == "removed" and not request.include_removed:
            raise removed(str(workspace_id), row["updated_at"])
        return convert.workspace(row, whole=whole)

    async def state(
        self, request: pb.GetWorkspaceStateRequest, call: Call
    ) -> pb.GetWorkspaceStateResponse:
        """Whether an agent should go on."""
        workspace_id, principal = parse_id(request.workspace_id, "workspace_id"), call.principal
        if principal.role is Role.ANONYMOUS and principal.revoked_workspace != workspace_id:
            raise Unauthenticated("missing workspace auth token")
        if principal.workspace_id not in (None, workspace_id):
            raise Unauthenticated("invalid workspace auth token")
        row = await workspaces.get(self._pool, workspace_id, scope(principal))
        status = row["status"] if row else None
        if status is None or status == "removed":
            # Always 404, never the 410 of a plain read: deployed agents stop on this one.
            told = {"status": status} if status else {}
            raise missing(workspace_id=str(workspace_id), deleted=True, **told)
        return pb.GetWorkspaceStateResponse(
            workspace_id=str(workspace_id),
            status=convert.status(status),
            paused=status == "paused",
        )

    async def update(self, request: pb.UpdateWorkspaceRequest) -> pb.UpdateWorkspaceResponse:
        """Change what is given, all or nothing."""
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        change, place = drafts.change(request), drafts.place(request)
        async with self._pool.acquire() as conn, conn.transaction():
            before = await placement.hold(conn, workspace_id, moving="parent_id" in change.given)
            if change.parent_id is not None:
                await placement.require_fit(
                    conn, before["organization_id"], workspace_id, change.parent_id
                )
            await workspaces.update(conn, workspace_id, change)
            if place.given:
                await workspaces.place(conn, workspace_id, place)
        remounted = (
            "workspace_dir" in change.given and change.workspace_dir != before["workspace_dir"]
        )
        return pb.UpdateWorkspaceResponse(status="updated", needs_restart=remounted)

    async def delete(
        self, request: pb.DeleteWorkspaceRequest, call: Call
    ) -> pb.DeleteWorkspaceResponse:
        """Remove a workspace and everything below it."""
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        row = await workspaces.get(self._pool, workspace_id, scope(call.principal))
        if row is None:
            raise missing()
        async with self._pool.acquire() as conn, conn.transaction():
            await tree.lock(conn, row["organization_id"], shared=False)
            family = await tree.family(conn, workspace_id)
            if not family:
                raise missing()
            children = [one for one in family if one["parent_id"] == workspace_id and one["live"]]
            if children and not request.confirm:
                call.set_http_status(_HTTP_CONFLICT)
                return _confirmation_required(children)
            response = await self._remove(conn, family, purge=request.purge)
        self._wake(one["id"] for one in family)
        return response

    async def _require_glance(self, principal: Principal, workspace_id: UUID) -> None:
        """Raise unless a stranger or a peer may see that the workspace exists."""
        if principal.workspace_id is not None:
            if not await self._directory.is_related(principal.workspace_id, workspace_id):
                raise missing()
        elif not (
            self._settings.auth.public_workspace_view or principal.revoked_workspace == workspace_id
        ):
            raise Unauthenticated("missing workspace auth token")

    async def _remove(
        self, conn: Connection, family: list[asyncpg.Record], *, purge: bool
    ) -> pb.DeleteWorkspaceResponse:
        """Tombstones first: from then on no late sign of life brings anything back."""
        everyone = [one["id"] for one in family]
        live = [one["id"] for one in family if one["live"]]
        await workspaces.mark_removed(conn, live)
        await tokens.revoke_workspace_tokens(conn, everyone)
        await self._on_remove(conn, everyone)
        if not purge:
            return pb.DeleteWorkspaceResponse(
                status="removed", cascade_deleted=max(0, len(live) - 1)
            )
        await self._on_purge(conn, everyone)
        await workspaces.purge(conn, everyone)
        return pb.DeleteWorkspaceResponse(status="purged", cascade_deleted=len(everyone) - 1)


def _confirmation_required(children: list[asyncpg.Record]) -> pb.DeleteWorkspaceResponse:
    return pb.DeleteWorkspaceResponse(
        status="confirmation_required",
        message="the workspace has children: repeat with confirm=true to remove them too",
        children=[
            pb.DeleteWorkspaceResponse.Child(id=str(one["id"]), name=one["name"])
            for one in children
        ],
        children_count=len(children),
    )
