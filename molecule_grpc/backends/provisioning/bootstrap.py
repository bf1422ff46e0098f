"""Bootstrap tokens: how a machine gets its workspace's secrets, where its user data may hold none.

A start mints a bootstrap token and hands it to the machine. The machine shows that to the platform
and gets what the workspace is started with, a token of the workspace among it. A bootstrap token
works once, for one workspace, until the workspace must have registered.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable
from typing import Final
from uuid import UUID

from molecule_grpc.auth.tokens import digest, mint
from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason
from molecule_grpc.backends.contract.workloads import StartRequest
from molecule_grpc.backends.operations.store import runs
from molecule_grpc.backends.operations.values import Operation
from molecule_grpc.backends.provisioning import store
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.kernel.errors import Conflict, Unauthenticated

# The variable with the workspace's token.
TOKEN: Final = "MOLECULE_TOKEN"

# A workspace's seconds from start to registration; 0 for a removed workspace.
ProvisionSeconds = Callable[[Connection, UUID], Awaitable[int]]
# The workspace of an operation has the files that it is started with.
Delivered = Callable[[Connection, Operation], Awaitable[None]]


class Bootstraps:
    """Makes requests of starts that hold a bootstrap token in the place of secrets.

    Args:
        prepare: makes the request with everything in it; raises `BackendFailure`.
        delivered: called before a machine is told what its workspace starts with.
    """

    def __init__(
        self,
        pool: Pool,
        prepare: Callable[[Operation], Awaitable[StartRequest]],
        provision_seconds: ProvisionSeconds,
        delivered: Delivered,
    ) -> None:
        self._pool = pool
        self._prepare = prepare
        self._provision_seconds = provision_seconds
        self._delivered = delivered

    async def prepare(self, operation: Operation) -> StartRequest:
        """The start of an operation's workspace, without anything secret but a bootstrap token.

        Raises:
            BackendFailure: the workspace was removed meanwhile, or it can never start.
        """
        # What can never start fails here, and not on a machine.
        whole = await self._prepare(operation)
        token = mint()
        async with self._pool.acquire() as conn, conn.transaction():
            seconds = await self._provision_seconds(conn, operation.workspace_id)
            if not seconds:
                raise BackendFailure(
                    FailureReason.CONFIGURATION, "the workspace was removed", undone=True
                )
            await store.add(conn, token.digest, operation.workspace_id, operation.id, seconds)
        return dataclasses.replace(
            whole,
            env={},
            config_files={},
            secret_files={},
            bootstrap_token=token.text,
            bootstrap_seconds=seconds,
        )

    async def exchange(self, workspace_id: UUID, token: str) -> StartRequest:
        """What a workspace is started with, for its bootstrap token, once.

        Raises:
            Unauthenticated: the token is not one that works now, for whatever reason.
            Conflict: the workspace cannot be started as it is; the token stays unused.
        """
        # Found by its SHA-256: how long the search takes says nothing about the token.
        token_hash = digest(token)
        claimed = await store.claim(self._pool, token_hash, workspace_id)
        if claimed is None:
            raise Unauthenticated("the bootstrap token is not valid")
        try:
            return await self._start_of(claimed)
        except BaseException as error:
            await asyncio.shield(store.release(self._pool, token_hash, claimed))
            if isinstance(error, BackendFailure):
                raise Conflict(error.public) from error
            raise

    async def _start_of(self, claimed: store.Claim) -> StartRequest:
        operation = await runs.find(self._pool, claimed.operation_id)
        if operation is None:
            raise Unauthenticated("the bootstrap token is not valid")
        # As of now: tokens that were minted for the workspace earlier are revoked.
        as_of_now = operation._replace(started_at=claimed.used_at)
        whole = await self._prepare(as_of_now)
        async with self._pool.acquire() as conn, conn.transaction():
            await self._delivered(conn, as_of_now)
        return whole
