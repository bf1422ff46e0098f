"""A workspace that hands work over, and waits for what becomes of it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

from moleculeai.delegation.v1 import delegation_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from molecule_grpc.client.delegation import Delegation
from molecule_grpc.client.member import Member

_LOOK_SECONDS = 5
_PAGE = 100


class Source(Member):
    """The delegating half of an agent."""

    _results: dict[str, asyncio.Event]

    async def delegate(
        self,
        target_id: str,
        task: str,
        *,
        idempotency_key: str | None = None,
        wait: int = 0,
        deadline: int | None = None,
    ) -> Delegation:
        """Hand a task to another workspace.

        Args:
            target_id: UUID of that workspace.
            task: what to do, at most 1 MiB.
            idempotency_key: the same key and task within 24 h find the same delegation. Without
                one, only the retries of this call do.
            wait: seconds to wait for the end, 0 to 300. The result also comes to the inbox.
            deadline: seconds until it fails if it has not ended; None means 6 hours.
        """
        request = pb.DelegateRequest(
            workspace_id=self.workspace_id,
            target_id=target_id,
            task=task,
            idempotency_key=idempotency_key or str(uuid.uuid4()),
            wait_seconds=wait,
            deadline_seconds=deadline or 0,
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

    async def result(self, delegation_id: str, wait: float = 300.0) -> Delegation:
        """The delegation when it has ended, whatever way. Leaves the inbox as it is.

        Args:
            delegation_id: of a delegation of this agent.
            wait: seconds.

        Raises:
            TimeoutError: it has not ended in time.
        """
        arrived = self._results.setdefault(delegation_id, asyncio.Event())
        try:
            async with asyncio.timeout(wait):
                head = (await self.pull(limit=1)).head_seq
                while not (found := await self.delegation(delegation_id)).final:
                    head = await self._news(head, arrived)
                return found
        finally:
            self._results.pop(delegation_id, None)

    def _result_arrived(self, delegation_id: str) -> None:
        if event := self._results.get(delegation_id):
            event.set()

    async def _news(self, head: int, arrived: asyncio.Event) -> int:
        """Wait a little for something to arrive; the newest item's number then.

        A pull sees what nobody has acked yet; an inbox that this agent holds acks at once, but
        sees everything first.
        """
        waiting = asyncio.create_task(arrived.wait())
        pulling = asyncio.create_task(self.pull(after_seq=head, limit=1, wait=_LOOK_SECONDS))
        try:
            await asyncio.wait({waiting, pulling}, return_when=asyncio.FIRST_COMPLETED)
            return pulling.result().head_seq if pulling.done() else head
        finally:
            arrived.clear()
            waiting.cancel()
            pulling.cancel()
