"""A workspace that hands work over, and waits for what becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator

from moleculeai.delegation.v1 import delegation_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from molecule_grpc.client.delegation import Delegation
from molecule_grpc.client.member import Member
from molecule_grpc.client.watch import watch_delegation

_PAGE = 100


class Source(Member):
    """The delegating half of an agent."""

    async def delegate(
        self,
        target_id: str,
        task: str,
        *,
        idempotency_key: str | None = None,
        wait: int = 0,
        deadline: int | None = None,
        attempts: int = 1,
        attempts_wait: int = 10,
    ) -> Delegation:
        """Hand a task to another workspace.

        Args:
            target_id: UUID of that workspace.
            task: what to do, at most 1 MiB.
            idempotency_key: the same key and task within 24 h find the same delegation. Without
                one, only the retries of this call do.
            wait: seconds to wait for the end, 0 to 300. The result also comes to the inbox.
            deadline: seconds until it fails if it has not ended; None means 6 hours.
            attempts: how often it may be handed over in all when it fails, 1 to 20.
            attempts_wait: seconds before the second attempt; each later one waits twice as long.
        """
        request = pb.DelegateRequest(
            workspace_id=self.workspace_id,
            target_id=target_id,
            task=task,
            idempotency_key=idempotency_key or str(uuid.uuid4()),
            wait_seconds=wait,
            deadline_seconds=deadline or 0,
            max_attempts=attempts,
            retry_backoff_seconds=attempts_wait,
        )
        stub = self.connection.delegations.Delegate
        answer = await self.connection.call(
            stub, request, retry=True, timeout=wait + self.connection.timeout
        )
        return Delegation.accepted(answer)

    async def delegation(self, delegation_id: str) -> Delegation:
        """One delegation of this agent, with its whole result."""
        return Delegation.read(await self.get_delegation(delegation_id))

    async def get_delegation(self, delegation_id: str) -> delegation_pb2.Delegation:
        """One delegation of this agent, with everything that the ledger tells."""
        request = pb.GetDelegationRequest(
            workspace_id=self.workspace_id, delegation_id=delegation_id
        )
        stub = self.connection.delegations.GetDelegation
        return await self.connection.call(stub, request, retry=True)

    async def delegations(
        self, *, status: str = "", direction: str = ""
    ) -> AsyncIterator[delegation_pb2.Delegation]:
        """All delegations, newest first, with the start of their results.

        Args:
            status: only this status.
            direction: `sent` or `received` only.
        """
        request = pb.ListDelegationsRequest(
            workspace_id=self.workspace_id, limit=_PAGE, status=status, direction=direction
        )
        stub = self.connection.delegations.ListDelegations
        while True:
            page, headers = await self.connection.call_with_headers(stub, request, retry=True)
            for message in page.delegations:
                yield message
            request.page_token = headers.get("x-next-page-token", "")
            if not request.page_token:
                return

    async def watch(self, delegation_id: str) -> AsyncIterator[Delegation]:
        """A delegation as it is, and again after every change, until it has ended."""
        async for found in watch_delegation(self.connection, self.workspace_id, delegation_id):
            yield found

    async def result(self, delegation_id: str, wait: float = 300.0) -> Delegation:
        """The delegation when it has ended, whatever way. The inbox gets the result all the same.

        Args:
            delegation_id: of a delegation of this agent.
            wait: seconds.

        Raises:
            TimeoutError: it has not ended in time.
        """
        async with (
            asyncio.timeout(wait),
            contextlib.aclosing(
                watch_delegation(self.connection, self.workspace_id, delegation_id)
            ) as changes,
        ):
            async for found in changes:
                if found.final:
                    return found
        raise AssertionError("a watch ends with the delegation")

    async def cancel(self, delegation_id: str, reason: str = "") -> bool:
        """Call a delegation off; whether it is cancelled. Its target hears of it and why."""
        request = pb.CancelDelegationRequest(
            workspace_id=self.workspace_id, delegation_id=delegation_id, reason=reason
        )
        stub = self.connection.delegations.CancelDelegation
        return (await self.connection.call(stub, request, retry=True)).applied
