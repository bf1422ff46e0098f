"""The delegating half of an agent: hands tasks over, and waits for results."""

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
    """A workspace that hands tasks over; `Agent` is its whole interface."""

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
            idempotency_key: at most 256 bytes; the same key and task within 24 h find the same
                delegation. None protects only the retries of this call.
            wait: seconds to wait for the end, 0 to 300. The result also comes to the inbox.
            deadline: seconds after which the delegation fails, at most 30 days; None for 6 hours.
            attempts: most attempts in all, 1 to 20; failures for agent_error, unreachable and
                poisoned are tried again.
            attempts_wait: seconds before the second attempt, doubled before each later one, at
                most an hour.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND: the target is unknown.
            PermissionDenied: NOT_RELATED: the target is no parent, child or sibling.
            InvalidArgument: SELF_DELEGATION, or a limit is exceeded.
            Aborted: IDEMPOTENCY_MISMATCH: the key belongs to another task.
            ResourceExhausted: INBOX_FULL: the target does not keep up.
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
        """A delegation of this agent, with the whole result.

        Raises:
            NotFound: DELEGATION_NOT_FOUND.
        """
        return Delegation.read(await self.get_delegation(delegation_id))

    async def get_delegation(self, delegation_id: str) -> delegation_pb2.Delegation:
        """A delegation of this agent as the protobuf message, with every field of the ledger.

        Raises:
            NotFound: DELEGATION_NOT_FOUND.
        """
        request = pb.GetDelegationRequest(
            workspace_id=self.workspace_id, delegation_id=delegation_id
        )
        stub = self.connection.delegations.GetDelegation
        return await self.connection.call(stub, request, retry=True)

    async def delegations(
        self, *, status: str = "", direction: str = ""
    ) -> AsyncIterator[delegation_pb2.Delegation]:
        """This agent's delegations, newest first, with the start of their results.

        Args:
            status: only delegations in this status; empty for all.
            direction: `sent` or `received`; empty for both.
        """
        request = pb.ListDelegationsRequest(
            workspace_id=self.workspace_id, limit=_PAGE, status=status, direction=direction
        )
        stub = self.connection.delegations.ListDelegations
        async for page in self.connection.pages(stub, request):
            for message in page.delegations:
                yield message

    async def watch(self, delegation_id: str) -> AsyncIterator[Delegation]:
        """The delegation now, and again after every change, until the delegation has ended.

        Raises:
            NotFound: DELEGATION_NOT_FOUND.
        """
        async for found in watch_delegation(self.connection, self.workspace_id, delegation_id):
            yield found

    async def result(self, delegation_id: str, wait: float = 300.0) -> Delegation:
        """Wait until a delegation is completed, failed or stuck.

        The result also comes to the inbox.

        Args:
            delegation_id: of a delegation of this agent.
            wait: most seconds to wait.

        Raises:
            TimeoutError: the delegation has not ended within `wait` seconds.
            NotFound: DELEGATION_NOT_FOUND.
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
        """Cancel a delegation; False when the delegation had ended before.

        Args:
            delegation_id: of a delegation that this agent handed over.
            reason: for the target, at most 1000 bytes.

        Raises:
            NotFound: DELEGATION_NOT_FOUND.
        """
        request = pb.CancelDelegationRequest(
            workspace_id=self.workspace_id, delegation_id=delegation_id, reason=reason
        )
        stub = self.connection.delegations.CancelDelegation
        return (await self.connection.call(stub, request, retry=True)).applied
