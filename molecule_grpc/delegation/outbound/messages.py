"""Messages to workspaces, and the activity record that pollers read."""

from __future__ import annotations

from uuid import UUID

import structlog
from google.api import httpbody_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from molecule_grpc.auth.principal import Principal
from molecule_grpc.db.pool import Pool
from molecule_grpc.delegation.ledger import rules
from molecule_grpc.delegation.ledger.ledger import Ledger
from molecule_grpc.delegation.ledger.store import views as ledger_views
from molecule_grpc.delegation.ledger.writes import LedgerWrites
from molecule_grpc.delegation.outbound import rules as dispatch_rules
from molecule_grpc.delegation.outbound.answers import answer
from molecule_grpc.delegation.outbound.callers import source_of
from molecule_grpc.delegation.outbound.outcome import Delivered, DispatchOutcome, Mode, Queued
from molecule_grpc.delegation.outbound.send import Push
from molecule_grpc.delegation.outbound.store import targets
from molecule_grpc.delegation.ports import Directory
from molecule_grpc.delegation.record import a2a
from molecule_grpc.delegation.record.bodies import to_text
from molecule_grpc.delegation.record.store.entries import Entry
from molecule_grpc.delegation.record.writes import RecordWrites
from molecule_grpc.directory import WorkspaceInfo
from molecule_grpc.kernel.errors import Exhausted, Invalid, NotFound
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.kernel.text import clean, cut_chars
from molecule_grpc.server.call import Call
from molecule_grpc.settings.settings import Settings

log = structlog.get_logger(__name__)

_SUMMARY_CHARS = 80
# Request headers that an agent gets to see.
_PASSED_ON = ("traceparent", "tracestate")
# Outcomes by which a message has reached the target, or will.
_ARRIVED = (Delivered, Queued)
# What it takes to answer a caller before it gives up.
_ANSWER_SECONDS = 0.5
_DEFAULT_HITS = 50


class Messages:
    """Sends messages, and keeps and reads each workspace's record."""

    def __init__(
        self,
        pool: Pool,
        records: RecordWrites,
        writes: LedgerWrites,
        directory: Directory,
        ledger: Ledger,
        push: Push,
        settings: Settings,
    ) -> None:
        self._pool = pool
        self._records = records
        self._writes = writes
        self._directory = directory
        self._ledger = ledger
        self._push = push
        self._max_body = settings.outbound.max_body_bytes

    async def send(self, request: pb.SendMessageRequest, call: Call) -> httpbody_pb2.HttpBody:
        """Deliver an A2A message: to an agent's URL, or to its inbox."""
        if len(request.body.data) > self._max_body:
            raise Invalid(
                f"the body exceeds {self._max_body} bytes",
                field="body",
                reason="BODY_TOO_LARGE",
                metadata={"max": str(self._max_body)},
                body={"max": self._max_body},
            )
        target_id = UUID(request.workspace_id)
        source_id = source_of(request.source_id, call)
        target = await self._reachable(source_id, target_id, call.principal)
        await self._require_budget(target_id)
        envelope = a2a.parse(request.body.data)
        if target.delivery_mode == "poll":
            outcome: DispatchOutcome = await self._leave(target_id, source_id, envelope)
        else:
            outcome = await self._push.send(
                target,
                source_id,
                envelope,
                wait_limit=_wait_limit(call),
                headers={name: call.metadata[name] for name in _PASSED_ON if name in call.metadata},
            )
        if source_id is not None and envelope.delegation_id and isinstance(outcome, _ARRIVED):
            await self._complete(source_id, target_id, envelope)
        return answer(outcome, envelope.method, call)

    async def _leave(
        self, target_id: UUID, source_id: UUID | None, envelope: a2a.Envelope
    ) -> Queued:
        """Put a message into the inbox of an agent that nobody calls."""
        body = to_text(envelope.body, "body")
        await self._records.append(
            Entry(
                workspace_id=target_id,
                activity_id=new_id(),
                activity_type="a2a_receive",
                method=clean(envelope.method)[:128],
                source_id=source_id,
                target_id=target_id,
                summary=cut_chars(clean(a2a.text_of(envelope.body)), _SUMMARY_CHARS),
                request_body=body,
                # What an agent tells itself is on record, but nothing to act on.
                message_id=None if source_id == target_id else clean(envelope.message_id),
                sender_id=source_id,
                bytes=len(body.encode()),
            )
        )
        return Queued(Mode.POLL)

    async def _require(self, workspace_id: UUID) -> WorkspaceInfo:
        facts = await self._directory.lookup(workspace_id)
        if facts is None:
            raise NotFound("workspace not found", reason="WORKSPACE_NOT_FOUND")
        return facts

    async def _reachable(
        self, source_id: UUID | None, target_id: UUID, principal: Principal
    ) -> WorkspaceInfo:
        if source_id is None or source_id == target_id:
            facts = await self._require(target_id)
        else:
            facts = await self._directory.require_reachable(source_id, target_id)
        if principal.organization_id not in (None, facts.organization_id):
            raise NotFound("workspace not found", reason="WORKSPACE_NOT_FOUND")
        return facts

    async def _require_budget(self, target_id: UUID) -> None:
        """Raise when the target has used up its month's budget. Not knowing counts as a no."""
        try:
            spent = await targets.over_budget(self._pool, target_id)
        except Exception as error:  # noqa: BLE001  (a message must not wait for an account)
            log.warning("budget not known", workspace_id=str(target_id), error=type(error).__name__)
            return
        if spent:
            raise Exhausted("the workspace's monthly budget is used up", reason="BUDGET_EXCEEDED")

    async def _complete(self, source_id: UUID, target_id: UUID, envelope: a2a.Envelope) -> None:
        """A reply that names a delegation ends it: from its callee, to its caller."""
        named = await ledger_views.get(self._pool, source_id, clean(envelope.delegation_id))
        if named is None or (named["callee_id"], named["caller_id"]) != (source_id, target_id):
            return
        text = clean(a2a.text_of(envelope.body))
        move = self._ledger.draft_move(
            envelope.delegation_id, source_id, rules.Status.COMPLETED, text=text
        )
        await self._writes.move(move)


def _wait_limit(call: Call) -> float | None:
    """How long the caller waits, if it says so; what is left of its deadline bounds that."""
    stated = dispatch_rules.wait_limit(call.metadata.get("x-timeout", ""))
    left = call.remaining()
    if left is None:
        return stated
    soon = max(_ANSWER_SECONDS, left - _ANSWER_SECONDS)
    return min(stated or soon, soon)
