"""From a workspace's row to the request of its start."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.auth import store as tokens
from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason
from molecule_grpc.backends.contract.workloads import StartRequest
from molecule_grpc.backends.egress import credentials
from molecule_grpc.backends.egress import store as egress
from molecule_grpc.backends.operations.values import Operation
from molecule_grpc.backends.provisioning.environment import Described, environment
from molecule_grpc.backends.provisioning.preflight import CONFIG_FILE, missing
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.host_list import HostList
from molecule_grpc.kernel.errors import Conflict

TOKEN_FILE: Final = ".auth_token"

_ROW = """
    SELECT w.id, w.name, coalesce(w.role, ''), w.runtime, w.tier,
           coalesce((SELECT a.model FROM agents a
                     WHERE a.workspace_id = w.id AND a.removed_at IS NULL), w.model, ''),
           w.parent_id, coalesce(w.workspace_dir, ''), w.workspace_access,
           w.egress::text
    FROM workspaces w WHERE w.id = $1 AND w.status <> 'removed'
    FOR NO KEY UPDATE
"""


class _Row(NamedTuple):
    """What a start needs of a workspace."""

    described: Described
    workspace_dir: str
    workspace_access: str
    egress: str | None


class Requests:
    """Makes requests of starts.

    A start mints a token for its agent, and revokes all that were live before the operation began:
    another try of the operation leaves those of the tries before alone, since one may have started.

    Args:
        platform_url: where agents reach this platform; empty for what the backend knows.
        secrets: the variables that a workspace inherits and has of its own; raises `Conflict` where
            one of them cannot be read.
        files: by path below /configs, what the start writes there beside the token.
        pinned: the digest of the image that a workspace's runtime is pinned to, or an empty text.
        proxy_key: of the passwords for the proxy.
    """

    def __init__(
        self,
        pool: Pool,
        platform_url: str,
        secrets: Callable[[UUID], Awaitable[Mapping[str, str]]],
        files: Callable[[UUID], Awaitable[Mapping[str, bytes]]],
        pinned: Callable[[UUID], Awaitable[str]],
        proxy_key: bytes,
    ) -> None:
        self._pool = pool
        self._secrets = secrets
        self._files = files
        self._pinned = pinned
        self._proxy_key = proxy_key
        self._platform_url = platform_url

    async def prepare(self, operation: Operation) -> StartRequest:
        """The start of an operation's workspace.

        Raises:
            BackendFailure: the workspace was removed meanwhile, a secret cannot be read, or the
                configuration requires a variable that is not set.
        """
        secrets = await self._readable_secrets(operation.workspace_id)
        files = await self._files(operation.workspace_id)
        image_digest = await self._pinned(operation.workspace_id)
        async with self._pool.acquire() as conn, conn.transaction():
            found = await conn.fetchrow(_ROW, operation.workspace_id)
            if found is None:
                raise BackendFailure(
                    FailureReason.CONFIGURATION, "the workspace was removed", undone=True
                )
            row = _Row(Described(*list(found)[:-3]), *list(found)[-3:])
            hosts = HostList.stored(row.egress)
            if hosts.is_open:
                await egress.note_open_start(conn, operation.workspace_id)
            else:
                await egress.note_start(conn, operation.workspace_id, operation.id)
            token = await _new_token(conn, operation.workspace_id, operation.started_at)
        env = environment(row.described, secrets, token=token, platform_url=self._platform_url)
        await _require(files.get(CONFIG_FILE, b""), env)
        return StartRequest(
            operation_id=operation.id,
            workspace_id=operation.workspace_id,
            organization_id=operation.organization_id,
            name=row.described.name,
            runtime=row.described.runtime,
            tier=row.described.tier,
            image_digest=image_digest,
            env=env,
            config_files={**files, TOKEN_FILE: token.encode()},
            workspace_dir=row.workspace_dir,
            workspace_access=row.workspace_access,
            egress=hosts.hosts,
            proxy_password=""
            if hosts.is_open
            else credentials.password_of(self._proxy_key, operation.id),
            reset_session=operation.options.reset_session,
            platform_url=self._platform_url,
        )

    async def _readable_secrets(self, workspace_id: UUID) -> Mapping[str, str]:
        try:
            return await self._secrets(workspace_id)
        except Conflict as error:
            raise BackendFailure(FailureReason.CONFIGURATION, error.message, undone=True) from error


async def _require(config: bytes, env: Mapping[str, str]) -> None:
    """Refuse a start that lacks the configuration's required variables. Raises `BackendFailure`."""
    names = await asyncio.to_thread(missing, config, env) if config else []
    if names:
        raise BackendFailure(
            FailureReason.CONFIGURATION,
            f"required environment variables are not set: {', '.join(names)}",
            undone=True,
            missing=tuple(names),
        )


async def _new_token(conn: Connection, workspace_id: UUID, began: datetime) -> str:
    await tokens.revoke_workspace_tokens(conn, [workspace_id], before=began)
    _, secret = await tokens.mint_workspace_token(conn, workspace_id)
    return secret.text
