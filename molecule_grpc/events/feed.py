"""The feed of events, live and from where a client left off."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
from google.api import httpbody_pb2
from google.protobuf import json_format
from moleculeai.delegation.v1 import event_pb2, inbox_pb2

from molecule_grpc.auth.authenticator import Authenticator
from molecule_grpc.auth.principal import Role
from molecule_grpc.db.pool import Pool
from molecule_grpc.db.wakeups import Wakeups
from molecule_grpc.events import store
from molecule_grpc.events.names import EventType
from molecule_grpc.events.readers import EventReaders
from molecule_grpc.kernel.errors import (
    Invalid,
    MoleculeError,
    NotFound,
    OutOfRange,
    Unauthenticated,
)
from molecule_grpc.kernel.protos import timestamp
from molecule_grpc.server.call import Call
from molecule_grpc.server.status import render
from molecule_grpc.server.streams import StreamGuards

_PAGE = 200
# Changes of workspaces come without a wake-up.
_LOOK_SECONDS = 1.0
_RECONNECT_MS = 500

Frame = event_pb2.SubscribeEventsResponse
Request = event_pb2.SubscribeEventsRequest | event_pb2.StreamEventsRequest


class Events:
    """Streams events to whoever may see them."""

    def __init__(
        self,
        pool: Pool,
        wakeups: Wakeups,
        authenticator: Authenticator,
        guards: StreamGuards,
        audience: EventReaders,
    ) -> None:
        self._pool = pool
        self._wakeups = wakeups
        self._authenticator = authenticator
        self._guards = guards
        self._audience = audience

    async def subscribe(
        self, request: event_pb2.SubscribeEventsRequest, call: Call
    ) -> AsyncIterator[Frame]:
        """Frames until the client leaves; one that the server ends closes with an End."""
        scope, place = await self._open(request, call)
        async for frame in self._closed(scope, place, call):
            yield frame

    async def stream(
        self, request: event_pb2.StreamEventsRequest, call: Call
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """The same, as the lines that an EventSource reads."""
        scope, place = await self._open(request, call)
        call.headers["cache-control"] = "no-cache"
        yield _sse(": ping\n\n")
        async for frame in self._closed(scope, place, call):
            yield _sse(_lines(frame))

    async def _open(self, request: Request, call: Call) -> tuple[store.Scope, store.Position]:
        """What to show and where to begin. Refusals come before the first frame."""
        scope = await self._scope(request, call)
        token = request.resume_after or call.metadata.get("last-event-id", "")
        return scope, _position(token) if token else await store.now(self._pool)

    async def _closed(
        self, scope: store.Scope, place: store.Position, call: Call
    ) -> AsyncIterator[Frame]:
        """The frames, with an End behind them when the server ends the stream."""
        try:
            async for frame in self._frames(scope, place, call):
                yield frame
        except MoleculeError as error:
            failure = render(error)
            end = inbox_pb2.End(
                code=int(failure.code), reason=failure.reason, message=failure.message
            )
            yield Frame(end=end)
            raise

    async def _scope(self, request: Request, call: Call) -> store.Scope:
        """What this caller may see, narrowed to what it asks for."""
        unknown = [name for name in request.types if name not in EventType.__members__]
        if unknown:
            raise Invalid(f"types: {unknown[0]!r} is not an event type", field="types")
        wanted = UUID(request.workspace_id) if request.workspace_id else None
        principal = call.principal
        organization_id = None if principal.role is Role.OPERATOR else principal.organization_id
        if principal.role is Role.WORKSPACE:
            if wanted not in (None, principal.workspace_id):
                raise Unauthenticated("invalid workspace auth token")
            wanted = principal.workspace_id
        elif wanted is not None:
            owner = await self._authenticator.organization_of(wanted)
            if owner is None or organization_id not in (None, owner):
                raise NotFound("workspace not found", reason="WORKSPACE_NOT_FOUND")
        return store.Scope(organization_id, wanted, tuple(request.types))

    async def _frames(
        self, scope: store.Scope, place: store.Position, call: Call
    ) -> AsyncIterator[Frame]:
        with (
            self._wakeups.watch(store.CHANNEL_ALL) as flag,
            self._guards.watch(flag, call) as guard,
            self._audience.attend(),
        ):
            while True:
                guard.check()
                rows = await store.read(self._pool, place, scope, limit=_PAGE)
                for row in rows:
                    place = store.Position(row["xact"], row["position"])
                    yield Frame(event=_event(row))
                if rows:
                    guard.spoke()
                if len(rows) == _PAGE:
                    continue
                if guard.over:
                    yield Frame(drain=inbox_pb2.Drain(reconnect_after_ms=_RECONNECT_MS))
                    raise guard.drained_error()
                if guard.beat_due():
                    beat = event_pb2.EventBeat(resume_token=_token(place, datetime.now(UTC)))
                    beat.server_time.GetCurrentTime()
                    yield Frame(beat=beat)
                await guard.wait(_LOOK_SECONDS)


def _event(row: asyncpg.Record) -> event_pb2.Event:
    event = event_pb2.Event(
        id=str(row["id"]),
        event_type=row["event_type"],
        created_at=timestamp(row["created_at"]),
        kept=row["kept"],
        resume_token=_token(store.Position(row["xact"], row["position"]), row["created_at"]),
    )
    json_format.Parse(row["payload"], event.payload)
    if row["workspace_id"] is not None:
        event.workspace_id = str(row["workspace_id"])
    return event


def _token(place: store.Position, moment: datetime) -> str:
    """A place in the feed, and its time: an older one than the retention cannot be resumed."""
    return f"{place.xact}.{place.position}.{int(moment.timestamp())}"


def _position(token: str) -> store.Position:
    try:
        xact, position, moment = (int(part) for part in token.split("."))
        if not (0 <= xact < 2**63 and 0 <= position < 2**63):
            raise ValueError("out of range")
        age = datetime.now(UTC) - datetime.fromtimestamp(moment, UTC)
    except (ValueError, OverflowError, OSError):
        raise Invalid("resume_after is not one of ours", field="resume_after") from None
    if age > timedelta(days=store.KEPT_DAYS):
        raise OutOfRange(
            "the events after this token were pruned; start without it", reason="CURSOR_PRUNED"
        )
    return store.Position(xact, position)


def _plain(value: Any) -> Any:
    """JSON as it was: protobuf keeps every number as a double."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value


def _sse(text: str) -> httpbody_pb2.HttpBody:
    return httpbody_pb2.HttpBody(content_type="text/event-stream", data=text.encode())


def _lines(frame: Frame) -> str:
    kind = frame.WhichOneof("frame")
    if kind == "beat":
        return ": ping\n\n"
    if kind == "event":
        event = frame.event
        body = {
            "type": event.event_type,
            "event": event.event_type,
            "workspace_id": event.workspace_id or None,
            "timestamp": event.created_at.ToMilliseconds(),
            "data": _plain(json_format.MessageToDict(event.payload)),
        }
        data = json.dumps(body, separators=(",", ":"))
        return f"id: {event.resume_token}\nevent: {event.event_type}\ndata: {data}\n\n"
    if kind == "drain":
        return f"retry: {frame.drain.reconnect_after_ms}\n: drain\n\n"
    data = json.dumps({"code": frame.end.code, "reason": frame.end.reason})
    return f"event: end\ndata: {data}\n\n"
