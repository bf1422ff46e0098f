"""The tokens of workspaces, and how to connect an external agent with one."""

from __future__ import annotations

from uuid import UUID

from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.auth import store as tokens
from molecule_grpc.db.pool import Pool
from molecule_grpc.events import store as event_store
from molecule_grpc.events.names import EventType
from molecule_grpc.events.store import Event
from molecule_grpc.kernel.errors import Conflict, Exhausted, NotFound
from molecule_grpc.kernel.ids import parse_id
from molecule_grpc.kernel.protos import timestamp
from molecule_grpc.server.call import Call
from molecule_grpc.settings.settings import Settings
from molecule_grpc.workspace import convert, rules
from molecule_grpc.workspace.connection import build_connection, platform_url
from molecule_grpc.workspace.directory import Directory
from molecule_grpc.workspace.refusals import missing
from molecule_grpc.workspace.store import workspaces

_DEFAULT_LISTED = 50
_SHOWN_ONCE = "store this token now: it is not shown again"
_RESTART_HINT = "credentials of this runtime are issued at start: POST /workspaces/{}/restart"


class Credentials:
    """Lists, mints and revokes tokens."""

    def __init__(self, pool: Pool, settings: Settings, directory: Directory) -> None:
        self._pool = pool
        self._settings = settings
        self._directory = directory

    async def list_live(self, request: pb.ListTokensRequest) -> pb.ListTokensResponse:
        """Live tokens, newest first."""
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        if await workspaces.status_of(self._pool, workspace_id) in (None, "removed"):
            raise missing()
        rows = await tokens.list_workspace_tokens(
            self._pool,
            workspace_id,
            limit=request.limit or _DEFAULT_LISTED,
            offset=request.offset,
        )
        return pb.ListTokensResponse(tokens=[convert.token(row) for row in rows], count=len(rows))

    async def create(self, request: pb.CreateTokenRequest) -> pb.CreateTokenResponse:
        """Mint a token."""
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        async with self._pool.acquire() as conn, conn.transaction():
            if await workspaces.lock_live(conn, workspace_id) is None:
                raise missing()
            live = await tokens.count_workspace_tokens(conn, workspace_id)
            if live >= tokens.MAX_LIVE_TOKENS:
                raise Exhausted(
                    f"the workspace has {live} live tokens, revoke one first",
                    reason="TOO_MANY_TOKENS",
                    metadata={"max": str(tokens.MAX_LIVE_TOKENS)},
                )
            row, secret = await tokens.mint_workspace_token(conn, workspace_id)
        return pb.CreateTokenResponse(
            auth_token=secret.text,
            workspace_id=str(workspace_id),
            message=_SHOWN_ONCE,
            id=str(row.id),
            prefix=row.prefix,
            created_at=timestamp(row.created_at),
        )

    async def revoke(self, request: pb.RevokeTokenRequest) -> pb.RevokeTokenResponse:
        """End a token."""
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        token_id = parse_id(request.token_id, "token_id")
        async with self._pool.acquire() as conn, conn.transaction():
            if not await tokens.revoke_workspace_token(conn, workspace_id, token_id):
                raise NotFound("token not found", reason="TOKEN_NOT_FOUND")
        return pb.RevokeTokenResponse(status="revoked")

    async def connection(
        self, request: pb.GetExternalConnectionRequest, call: Call
    ) -> pb.GetExternalConnectionResponse:
        """How to connect, without a token."""
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        facts = await self._directory.lookup(workspace_id)
        if facts is None:
            raise missing()
        _require_external(workspace_id, facts.runtime)
        base = platform_url(self._settings.edge, call.metadata)
        return pb.GetExternalConnectionResponse(
            connection=build_connection(base, str(workspace_id), "")
        )

    async def rotate(
        self, request: pb.RotateExternalCredentialsRequest, call: Call
    ) -> pb.RotateExternalCredentialsResponse:
        """End every token and mint one."""
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        base = platform_url(self._settings.edge, call.metadata)
        async with self._pool.acquire() as conn, conn.transaction():
            row = await workspaces.lock_live(conn, workspace_id)
            if row is None:
                raise missing()
            _require_external(workspace_id, row["runtime"])
            # In one transaction: nobody finds the workspace without a token and registers it.
            await tokens.revoke_workspace_tokens(conn, [workspace_id])
            _, secret = await tokens.mint_workspace_token(conn, workspace_id)
            connection = build_connection(base, str(workspace_id), secret.text)
            rotated = Event.of(
                EventType.EXTERNAL_CREDENTIALS_ROTATED, row["organization_id"], workspace_id
            )
            await event_store.keep(conn, [rotated])
        return pb.RotateExternalCredentialsResponse(connection=connection)


def _require_external(workspace_id: UUID, runtime: str) -> None:
    if runtime != rules.EXTERNAL:
        raise Conflict(
            "only an external workspace has connection details",
            reason="RUNTIME_NOT_EXTERNAL",
            metadata={"runtime": runtime},
            body={"runtime": runtime, "hint": _RESTART_HINT.format(workspace_id)},
        )
