"""Messages to workspaces, and the activity record that pollers read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

import asyncpg
import structlog
from google.api import httpbody_pb2
from google.protobuf import json_format
from moleculeai.delegation.v1 import activity_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from molecule_grpc.auth.principal import Principal
from molecule_grpc.db.pool import Pool
from molecule_grpc.delegation import convert, rules
from molecule_grpc.delegation.ledger.ledger import Ledger
from molecule_grpc.delegation.ledger.store import views as ledger_views
from molecule_grpc.delegation.ledger.writes import Journal
from molecule_grpc.delegation.outbound import rules as dispatch_rules
from molecule_grpc.delegation.outbound.answers import answer
from molecule_grpc.delegation.outbound.callers import source_of
from molecule_grpc.delegation.outbound.outcome import Delivered, DispatchOutcome, Mode, Queued
from molecule_grpc.delegation.outbound.send import Push
from molecule_grpc.delegation.outbound.store import targets
from molecule_grpc.delegation.ports import Directory
from molecule_grpc.delegation.record import a2a
from molecule_grpc.delegation.record.bodies import to_text
from molecule_grpc.delegation.record.store import activity
from molecule_grpc.delegation.record.store.entries import Entry
from molecule_grpc.directory import WorkspaceInfo
from molecule_grpc.kernel.errors import Denied, Exhausted, Invalid, NotFound, OutOfRange
from molecule_grpc.kernel.ids import new_id, parse_id
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
        journal: Journal,
        directory: Directory,
        ledger: Ledger,
        push: Push,
        settings: Settings,
    ) -> None:
        self._pool = pool
        self._journal = journal
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
        await self._journal.append(
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

    async def list(self, request: pb.ListActivityRequest) -> pb.ListActivityResponse:
        """Rows of a workspace's record, as pollers ask for them."""
        workspace_id = UUID(request.workspace_id)
        chosen = activity.Filter(
            type=clean(request.type) or None,
            source=request.source or None,
            peer_id=UUID(request.peer_id) if request.peer_id else None,
            since=rules.since(request.since_secs, datetime.now(UTC)),
            before=rules.timestamp(request.before_ts, "before_ts"),
        )
        limit = rules.activity_limit(request.limit)
        if request.since_id:
            rows = await activity.list_rows_after(
                self._pool,
                workspace_id,
                chosen,
                cursor=await self._cursor(workspace_id, request.since_id),
                limit=limit,
            )
        else:
            rows = await activity.list_rows(self._pool, workspace_id, chosen, limit=limit)
        return pb.ListActivityResponse(activities=[convert.activity(row) for row in rows])

    async def get(self, request: pb.GetActivityRequest) -> activity_pb2.Activity:
        """One row of a workspace's record."""
        row = await activity.get(self._pool, UUID(request.workspace_id), UUID(request.activity_id))
        if row is None:
            raise NotFound("activity not found")
        return convert.activity(row)

    async def search(self, request: pb.SearchSessionRequest) -> pb.SearchSessionResponse:
        """Rows of a workspace's record that contain a text."""
        rows = await activity.search(
            self._pool,
            UUID(request.workspace_id),
            clean(request.q),
            limit=request.limit or _DEFAULT_HITS,
        )
        return pb.SearchSessionResponse(hits=[convert.session_hit(row) for row in rows])

    async def report(self, request: pb.ReportActivityRequest) -> pb.ReportActivityResponse:
        """Add to the caller's own record. Never an inbox item."""
        workspace_id = UUID(request.workspace_id)
        if request.source_id and request.source_id.lower() != str(workspace_id):
            raise Denied("source_id must be the calling workspace", reason="SOURCE_SPOOFED")
        await self._require(workspace_id)
        await self._journal.append(
            Entry(
                workspace_id=workspace_id,
                activity_id=new_id(),
                activity_type=request.activity_type,
                method=clean(request.method) or None,
                source_id=workspace_id,
                target_id=UUID(request.target_id) if request.target_id else None,
                summary=clean(request.summary) or None,
                duration_ms=request.duration_ms if request.HasField("duration_ms") else None,
                status=clean(request.status) or "ok",
                error_detail=clean(request.error_detail) or None,
                request_body=_body(request, "request_body"),
                response_body=_body(request, "response_body"),
                tool_trace=_body(request, "tool_trace"),
            )
        )
        return pb.ReportActivityResponse(status="logged")

    async def notify(self, request: pb.NotifyRequest) -> pb.NotifyResponse:
        """Let an agent speak to the human. Recorded; never an inbox item."""
        workspace_id = UUID(request.workspace_id)
        message = clean(request.message)
        if not message:
            raise Invalid("message is required", field="message")
        body: dict[str, object] = {"result": message}
        if request.attachments:
            body["parts"] = [_file_part(n, a) for n, a in enumerate(request.attachments)]
        await self._require(workspace_id)
        await self._journal.append(
            Entry(
                workspace_id=workspace_id,
                activity_id=new_id(),
                activity_type="a2a_receive",
                method="notify",
                summary="Agent message: " + cut_chars(message, _SUMMARY_CHARS),
                response_body=to_text(body, "attachments"),
            )
        )
        return pb.NotifyResponse(status="sent")

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
        await self._journal.move(move)

    async def _cursor(self, workspace_id: UUID, since_id: str) -> asyncpg.Record:
        found = None
        try:
            activity_id = parse_id(since_id, "since_id")
        except Invalid:
            activity_id = None
        if activity_id is not None:
            found = await activity.cursor(self._pool, workspace_id, activity_id)
        if found is None:
            raise OutOfRange(
                "since_id cursor not found (pruned or unknown); omit since_id to reset",
                reason="CURSOR_PRUNED",
            )
        return found


def _wait_limit(call: Call) -> float | None:
    """How long the caller waits, if it says so; what is left of its deadline bounds that."""
    stated = dispatch_rules.wait_limit(call.metadata.get("x-timeout", ""))
    left = call.remaining()
    if left is None:
        return stated
    soon = max(_ANSWER_SECONDS, left - _ANSWER_SECONDS)
    return min(stated or soon, soon)


def _file_part(index: int, attachment: pb.Attachment) -> dict[str, object]:
    if not attachment.uri or not attachment.name:
        raise Invalid(
            f"attachment[{index}]: uri and name are required", field=f"attachments[{index}]"
        )
    file: dict[str, object] = {"uri": clean(attachment.uri), "name": clean(attachment.name)}
    if attachment.mime_type:
        file["mimeType"] = clean(attachment.mime_type)
    if attachment.HasField("size"):
        file["size"] = attachment.size
    return {"kind": "file", "file": file}


_Body = Literal["request_body", "response_body", "tool_trace"]


def _body(request: pb.ReportActivityRequest, name: _Body) -> str | None:
    if not request.HasField(name):
        return None
    try:
        body = json_format.MessageToDict(getattr(request, name))
    except ValueError:  # NaN or an infinity
        raise Invalid("a number is out of range", field=name) from None
    return to_text(body, name)
