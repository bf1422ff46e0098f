"""Sending a message to a workspace: to its agent's URL, or into its inbox."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple
from uuid import UUID

import structlog

from molecule_grpc.auth.principal import Principal
from molecule_grpc.db.pool import Pool
from molecule_grpc.db.wakeups import Flag
from molecule_grpc.delegation.ledger.moves import Moves
from molecule_grpc.delegation.ledger.store import views as ledger_views
from molecule_grpc.delegation.outbound.answers import Answer, answer
from molecule_grpc.delegation.outbound.callers import source_of
from molecule_grpc.delegation.outbound.outcome import Delivered, DispatchOutcome, Mode, Queued
from molecule_grpc.delegation.outbound.rules import bounded_wait, wait_limit
from molecule_grpc.delegation.outbound.send import Push
from molecule_grpc.delegation.outbound.store import targets
from molecule_grpc.delegation.record import a2a
from molecule_grpc.delegation.record.store.entries import Entry
from molecule_grpc.delegation.record.writes import RecordWrites, require_day_room
from molecule_grpc.directory import ASLEEP, Directory, WorkspaceInfo
from molecule_grpc.kernel.errors import Exhausted, Invalid, NotFound
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.kernel.json_text import to_text
from molecule_grpc.kernel.text import clean, cut_chars
from molecule_grpc.quotas import Quotas
from molecule_grpc.server.streams import StreamGuards

log = structlog.get_logger(__name__)

# Request headers that are passed on to the agent.
PASSED_ON = ("traceparent", "tracestate")
_SUMMARY_CHARS = 80
# Outcomes by which a message has reached the target, or will.
_ARRIVED = (Delivered, Queued)


class Message(NamedTuple):
    """An A2A message as its sender handed it in.

    Args:
        claimed_source: the workspace that the sender says speaks; empty when it says nothing.
        body: JSON-RPC 2.0, or bare `{method, params}`.
        headers: request headers that the agent gets to see.
        authorization: the header that the sender sent; its wait ends when the token is revoked.
        stated_wait: the text of the `X-Timeout` header; empty without one.
        remaining: seconds until the sender gives up; None when it waits for ever.
    """

    target: UUID
    claimed_source: str
    body: bytes
    headers: Mapping[str, str]
    authorization: str | None = None
    stated_wait: str = ""
    remaining: float | None = None


class Messages:
    """Sends messages for agents and humans.

    Args:
        quotas: what organisations and workspaces may keep.
        wake: begins to start a hibernated agent.
        max_body: most bytes of a message.
    """

    def __init__(
        self,
        pool: Pool,
        records: RecordWrites,
        moves: Moves,
        directory: Directory,
        push: Push,
        guards: StreamGuards,
        quotas: Quotas,
        *,
        wake: Callable[[UUID], Awaitable[None]],
        max_body: int,
    ) -> None:
        self._pool = pool
        self._records = records
        self._moves = moves
        self._directory = directory
        self._push = push
        self._guards = guards
        self._quotas = quotas
        self._wake = wake
        self._max_body = max_body

    async def send(self, message: Message, principal: Principal) -> Answer:
        """Deliver a message; the agent's answer, or a receipt when the answer comes later.

        A message that names a delegation of which its sender is the callee ends that delegation.

        Raises:
            Invalid: BODY_TOO_LARGE, or the body is not an A2A message.
            Denied: SOURCE_SPOOFED or NOT_RELATED.
            Unauthenticated: the token is not the claimed source's, or was revoked during the wait;
                the message goes on.
            NotFound: WORKSPACE_NOT_FOUND.
            Exhausted: BUDGET_EXCEEDED, INBOX_FULL or QUOTA_EXCEEDED.
            Unavailable: the agent gave no answer, and the message is not in its queue.
        """
        started = time.monotonic()
        self._require_fit(message.body)
        source_id = source_of(message.claimed_source, principal)
        target = await self._reachable(source_id, message.target, principal)
        await self._require_budget(target.id)
        envelope = a2a.parse(message.body)
        answered = envelope.delegation_id  # Refused before the message is delivered.
        if target.delivery_mode == "poll" or source_id == target.id:
            if target.status in ASLEEP and source_id != target.id:
                await self._wake(target.id)
            outcome: DispatchOutcome = await self._to_inbox(target.id, source_id, envelope)
        else:
            await require_day_room(self._pool, target.organization_id, self._quotas)
            left = message.remaining
            if left is not None:
                left -= time.monotonic() - started
            outcome = await self._to_agent(target, source_id, envelope, message, left)
        if source_id is not None and answered and isinstance(outcome, _ARRIVED):
            await self._complete(source_id, target.id, envelope)
        return answer(outcome, envelope.method)

    async def leave(self, workspace_id: UUID, text: str, message_id: str = "") -> None:
        """Leave a text of the platform for an agent, which answers it to nobody.

        Nothing where the workspace is gone.

        Args:
            message_id: begins with `molecule:`; a text that is left again under it is there once.

        Raises:
            Exhausted: INBOX_FULL.
        """
        target = await self._directory.lookup(workspace_id)
        if target is None:
            return
        envelope = a2a.notice(text, message_id)
        if target.delivery_mode == "poll":
            await self._to_inbox(target.id, None, envelope)
        else:
            await self._push.leave(target.id, envelope)

    async def _to_agent(
        self,
        target: WorkspaceInfo,
        source_id: UUID | None,
        envelope: a2a.Envelope,
        message: Message,
        left: float | None,
    ) -> DispatchOutcome:
        """Call the agent at its URL, and wait as long as the sender does.

        Args:
            left: seconds until the sender gives up; None when it waits for ever.
        """
        limit = bounded_wait(wait_limit(message.stated_wait), left)
        watched = self._guards.watch_token(Flag(target.id), message.authorization, beats=False)
        with watched as guard:
            async with guard.interruptible():
                return await self._push.send(
                    target, source_id, envelope, wait_limit=limit, headers=message.headers
                )

    def _require_fit(self, body: bytes) -> None:
        if len(body) > self._max_body:
            raise Invalid(
                f"the body exceeds {self._max_body} bytes",
                field="body",
                reason="BODY_TOO_LARGE",
                metadata={"max": str(self._max_body)},
                body={"max": self._max_body},
            )

    async def _to_inbox(
        self, target_id: UUID, source_id: UUID | None, envelope: a2a.Envelope
    ) -> Queued:
        """Put a message into the target's inbox; a message to oneself only onto the record."""
        body = to_text(envelope.body, "body")
        own = source_id == target_id
        await self._records.append(
            Entry(
                workspace_id=target_id,
                activity_id=new_id(),
                # An agent's message to itself is a row of its record, never a message for it: no
                # inbox item, and nothing that a poller of received messages would answer.
                activity_type="a2a_send" if own else "a2a_receive",
                method=envelope.method,
                source_id=source_id,
                target_id=target_id,
                summary=cut_chars(clean(a2a.said(envelope.body)), _SUMMARY_CHARS),
                request_body=body,
                message_id=None if own else envelope.message_id,
                sender_id=source_id,
                bytes=len(body.encode()),
            )
        )
        return Queued(Mode.POLL)

    async def _reachable(
        self, source_id: UUID | None, target_id: UUID, principal: Principal
    ) -> WorkspaceInfo:
        if source_id is None or source_id == target_id:
            target = await self._directory.lookup(target_id)
        else:
            target = await self._directory.require_reachable(source_id, target_id)
        if target is None or principal.organization_id not in (None, target.organization_id):
            raise NotFound("workspace not found", reason="WORKSPACE_NOT_FOUND")
        return target

    async def _require_budget(self, target_id: UUID) -> None:
        """Refuse a message to a workspace that has used up its month's budget.

        When the budget cannot be read the message passes.
        """
        try:
            spent = await targets.over_budget(self._pool, target_id)
        except Exception as error:  # noqa: BLE001  (a message must not wait for an account)
            log.warning("budget not known", workspace_id=str(target_id), error=type(error).__name__)
            return
        if spent:
            raise Exhausted("the workspace's monthly budget is used up", reason="BUDGET_EXCEEDED")

    async def _complete(self, source_id: UUID, target_id: UUID, envelope: a2a.Envelope) -> None:
        """End the delegation that the message names, when the callee sends it to the caller."""
        delegation_id = envelope.delegation_id
        named = await ledger_views.get(self._pool, source_id, delegation_id)
        if named is None or (named.callee_id, named.caller_id) != (source_id, target_id):
            return
        text = clean(a2a.said(envelope.body))
        await self._moves.complete(source_id, delegation_id, text=text)
