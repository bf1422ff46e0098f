"""From a workspace's row to the request of its start."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.auth import store as tokens
from molecule_grpc.backends.contract import BackendFailure, FailureReason, StartRequest
from molecule_grpc.backends.operations.values import Operation
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.kernel.errors import Conflict

TOKEN_FILE: Final = ".auth_token"

_ROW = """
    SELECT name, runtime, tier, coalesce(workspace_dir, ''), workspace_access, parent_id
    FROM workspaces WHERE id = $1 AND status <> 'removed'
    FOR NO KEY UPDATE
"""


class _Row(NamedTuple):
    """What a start needs of a workspace."""

    name: str
    runtime: str
    tier: int
    workspace_dir: str
    workspace_access: str
    parent_id: UUID | None


class Requests:
    """Makes requests of starts.

    A start mints a token for its agent, and revokes all that were live before the operation began:
    another try of the operation leaves those of the tries before alone, since one may have started.

    Args:
        platform_url: where agents reach this platform; empty for what the backend knows.
        secrets: the variables that a workspace inherits and has of its own; raises `Conflict` where
            one of them cannot be read.
        files: by path below /configs, what the start writes there beside the token.
    """

    def __init__(
        self,
        pool: Pool,
        platform_url: str,
        secrets: Callable[[UUID], Awaitable[Mapping[str, str]]],
        files: Callable[[UUID], Awaitable[Mapping[str, bytes]]],
    ) -> None:
        self._pool = pool
        self._secrets = secrets
        self._files = files
        self._platform_url = platform_url

    async def prepare(self, operation: Operation) -> StartRequest:
        """The start of an operation's workspace.

        Raises:
            BackendFailure: the workspace was removed meanwhile, or a secret cannot be read.
        """
        secrets = await self._readable_secrets(operation.workspace_id)
        files = await self._files(operation.workspace_id)
        async with self._pool.acquire() as conn, conn.transaction():
            found = await conn.fetchrow(_ROW, operation.workspace_id)
            if found is None:
                raise BackendFailure(
                    FailureReason.CONFIGURATION, "the workspace was removed", undone=True
                )
            token = await _new_token(conn, operation.workspace_id, operation.started_at)
        row = _Row(*found)
        return StartRequest(
            operation_id=operation.id,
            workspace_id=operation.workspace_id,
            organization_id=operation.organization_id,
            name=row.name,
            runtime=row.runtime,
            tier=row.tier,
            env={**secrets, **self._environment(operation.workspace_id, row, token)},
            config_files={**files, TOKEN_FILE: token.encode()},
            workspace_dir=row.workspace_dir,
            workspace_access=row.workspace_access,
            reset_session=operation.options.reset_session,
            platform_url=self._platform_url,
        )

    async def _readable_secrets(self, workspace_id: UUID) -> Mapping[str, str]:
        try:
            return await self._secrets(workspace_id)
        except Conflict as error:
            raise BackendFailure(FailureReason.CONFIGURATION, error.message, undone=True) from error

    def _environment(self, workspace_id: UUID, row: _Row, token: str) -> dict[str, str]:
        env = {
            "WORKSPACE_ID": str(workspace_id),
            "WORKSPACE_CONFIG_PATH": "/configs",
            "TIER": str(row.tier),
            "MOLECULE_TOKEN": token,
        }
        if row.parent_id is not None:
            env["PARENT_ID"] = str(row.parent_id)
        if self._platform_url:
            env["PLATFORM_URL"] = env["MOLECULE_URL"] = self._platform_url
        return env


async def _new_token(conn: Connection, workspace_id: UUID, began: datetime) -> str:
    await tokens.revoke_workspace_tokens(conn, [workspace_id], before=began)
    _, secret = await tokens.mint_workspace_token(conn, workspace_id)
    return secret.text
