"""What operators do with work that failed, and how they look at what happened."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

import asyncpg
from google.protobuf import json_format
from moleculeai.admin.v1 import admin_service_pb2 as pb
from moleculeai.delegation.v1 import event_pb2

from molecule_grpc.admin.convert import timestamp
from molecule_grpc.auth.principal import Principal, Role
from molecule_grpc.events.values import Scope
from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.kernel.text import clean
from molecule_grpc.server.call import Call

_DEFAULT_PAGE = 100
_EVENTS = 100
_STALE_MINUTES = 60
# Longer than anything waits, and safe to take from a clock.
_MOST_MINUTES = 10 * 365 * 24 * 60


Place = tuple[datetime, UUID, int]


class DeadLetters(Protocol):
    """Work that failed. `organization_id` None sees all of it."""

    async def list_rows(
        self,
        *,
        organization_id: UUID | None,
        workspace_id: UUID | None,
        before: Place | None,
        limit: int,
    ) -> list[asyncpg.Record]:
        """Items that were set aside, newest first; None leaves a filter out."""
        ...

    async def drop(self, workspace_id: UUID, seq: int, organization_id: UUID | None) -> None:
        """Take an item off the list."""
        ...

    async def replay(self, workspace_id: UUID, seq: int, organization_id: UUID | None) -> int:
        """Send an item again; its new number."""
        ...

    async def retry(self, delegation_id: str, organization_id: UUID | None) -> str:
        """Try a delegation again as a new one; its id."""
        ...


DropStale = Callable[[timedelta, UUID | None, UUID | None], Awaitable[int]]
NewestEvents = Callable[[Scope, int], Awaitable[list[asyncpg.Record]]]


class Operations:
    """The operators' hands.

    Args:
        drop_stale: lets go of queued messages of this age, for one workspace, of one organisation;
            None means all. Returns how many.
    """

    def __init__(
        self, dead_letters: DeadLetters, newest_events: NewestEvents, drop_stale: DropStale
    ) -> None:
        self._dead_letters = dead_letters
        self._newest_events = newest_events
        self._drop_stale = drop_stale

    async def retry(
        self, request: pb.RetryDelegationRequest, call: Call
    ) -> pb.RetryDelegationResponse:
        """Try a delegation again."""
        old = clean(request.delegation_id)
        new = await self._dead_letters.retry(old, _scope(call.principal))
        return pb.RetryDelegationResponse(delegation_id=new, retry_of=old)

    async def list_dead_letters(
        self, request: pb.ListDeadLettersRequest, call: Call
    ) -> pb.ListDeadLettersResponse:
        """A page of items that were set aside."""
        limit = request.limit or _DEFAULT_PAGE
        rows = await self._dead_letters.list_rows(
            organization_id=_scope(call.principal),
            workspace_id=UUID(request.workspace_id) if request.workspace_id else None,
            before=_read_token(request.page_token),
            limit=limit,
        )
        if len(rows) == limit:
            call.headers["x-next-page-token"] = _page_token(rows[-1])
        return pb.ListDeadLettersResponse(dead_letters=[_dead_letter(row) for row in rows])

    async def replay(
        self, request: pb.ReplayDeadLetterRequest, call: Call
    ) -> pb.ReplayDeadLetterResponse:
        """Send an item again."""
        seq = await self._dead_letters.replay(
            UUID(request.workspace_id), request.seq, _scope(call.principal)
        )
        return pb.ReplayDeadLetterResponse(seq=seq)

    async def drop(
        self, request: pb.DropDeadLetterRequest, call: Call
    ) -> pb.DropDeadLetterResponse:
        """Take an item off the list."""
        await self._dead_letters.drop(
            UUID(request.workspace_id), request.seq, _scope(call.principal)
        )
        return pb.DropDeadLetterResponse(status="dropped")

    async def drop_stale(
        self, request: pb.DropStaleQueueRequest, call: Call
    ) -> pb.DropStaleQueueResponse:
        """Let go of messages that have waited too long for agents."""
        minutes = request.max_age_minutes if request.HasField("max_age_minutes") else _STALE_MINUTES
        if minutes < 1:
            raise Invalid("max_age_minutes must be at least 1", field="max_age_minutes")
        dropped = await self._drop_stale(
            timedelta(minutes=min(minutes, _MOST_MINUTES)),
            UUID(request.workspace_id) if request.workspace_id else None,
            _scope(call.principal),
        )
        return pb.DropStaleQueueResponse(dropped=dropped)

    async def list_events(self, request: pb.ListEventsRequest, call: Call) -> pb.ListEventsResponse:
        """The newest kept events."""
        workspace_id = UUID(request.workspace_id) if request.workspace_id else None
        scope = Scope(_scope(call.principal), workspace_id, ())
        rows = await self._newest_events(scope, _EVENTS)
        return pb.ListEventsResponse(events=[_event(row) for row in rows])


def _scope(principal: Principal) -> UUID | None:
    return None if principal.role is Role.OPERATOR else principal.organization_id


def _dead_letter(row: asyncpg.Record) -> pb.DeadLetter:
    return pb.DeadLetter(
        workspace_id=str(row["workspace_id"]),
        seq=row["seq"],
        message_id=row["message_id"],
        method=row["method"],
        source_id=str(row["source_id"] or ""),
        delegation_id=row["delegation_id"] or "",
        deliveries=row["deliveries"],
        reason=row["reason"] or "",
        summary=row["summary"] or "",
        created_at=timestamp(row["created_at"]),
        poisoned_at=timestamp(row["done_at"]),
    )


def _event(row: asyncpg.Record) -> event_pb2.Event:
    event = event_pb2.Event(
        id=str(row["id"]),
        event_type=row["event_type"],
        created_at=timestamp(row["created_at"]),
        kept=True,
    )
    json_format.Parse(row["payload"], event.payload)
    if row["workspace_id"] is not None:
        event.workspace_id = str(row["workspace_id"])
    return event


def _page_token(row: asyncpg.Record) -> str:
    text = json.dumps([row["done_at"].isoformat(), str(row["workspace_id"]), row["seq"]])
    return base64.urlsafe_b64encode(text.encode()).decode()


def _read_token(token: str) -> Place | None:
    if not token:
        return None
    try:
        done_at, workspace_id, seq = json.loads(base64.urlsafe_b64decode(token))
        moment = datetime.fromisoformat(done_at)
        if moment.tzinfo is None or not isinstance(seq, int):
            raise ValueError("not ours")
        return moment, UUID(workspace_id), seq
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise Invalid("page_token is not one of ours", field="page_token") from None
