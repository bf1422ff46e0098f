"""The activity record of workspaces: what pollers read, and what agents add to it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal
from uuid import UUID

import asyncpg
from google.protobuf import json_format
from moleculeai.delegation.v1 import activity_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from molecule_grpc.db.pool import Pool
from molecule_grpc.delegation import convert
from molecule_grpc.delegation.ports import Directory
from molecule_grpc.delegation.record import rules
from molecule_grpc.delegation.record.bodies import to_text
from molecule_grpc.delegation.record.store import activity
from molecule_grpc.delegation.record.store.entries import Entry
from molecule_grpc.delegation.record.writes import RecordWrites
from molecule_grpc.directory import WorkspaceInfo
from molecule_grpc.kernel.errors import Denied, Invalid, NotFound, OutOfRange
from molecule_grpc.kernel.ids import new_id, parse_id
from molecule_grpc.kernel.text import clean, cut_chars

_SUMMARY_CHARS = 80
_DEFAULT_HITS = 50


class ActivityRecord:
    """Keeps and reads each workspace's record."""

    def __init__(self, pool: Pool, records: RecordWrites, directory: Directory) -> None:
        self._pool = pool
        self._records = records
        self._directory = directory

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
        await self._records.append(
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
        await self._records.append(
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
