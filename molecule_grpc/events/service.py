"""The feed of events on the wire: frames for gRPC, lines for browsers."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Generic, TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary

from google.api import httpbody_pb2
from moleculeai.delegation.v1 import event_pb2, inbox_pb2

from molecule_grpc.db.wakeups import Flag
from molecule_grpc.events.convert import event_message
from molecule_grpc.events.feed import Beat, EventFeed, Shown
from molecule_grpc.events.tokens import ResumeTokens
from molecule_grpc.events.values import Position, Scope, StoredEvent
from molecule_grpc.server.call import Call
from molecule_grpc.server.status import CallFailure
from molecule_grpc.server.streams import StreamGuards, with_end

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PING = ": ping\n\n"

Frame = event_pb2.SubscribeEventsResponse
Request = event_pb2.SubscribeEventsRequest | event_pb2.StreamEventsRequest
T = TypeVar("T")


class EventsService:
    """Serves SubscribeEvents and StreamEvents of `moleculeai.delegation.v1.DelegationService`."""

    def __init__(self, feed: EventFeed, guards: StreamGuards, tokens: ResumeTokens) -> None:
        self._feed = feed
        self._guards = guards
        self._event_frame = _OncePerEvent(partial(_event_frame, tokens))
        self._event_body = _OncePerEvent(partial(_event_body, tokens))

    async def subscribe(
        self, request: event_pb2.SubscribeEventsRequest, call: Call
    ) -> AsyncIterator[Frame]:
        """Frames until the client leaves; a stream that the server ends closes with an End."""
        scope = await self._scope(request, call)
        # A reader is counted before its first frame: events that only readers get are
        # written from here on.
        with self._feed.attend(scope) as flag:
            place = await self._start(request, call)
            frames = self._followed(scope, place, flag, call, self._frame)
            async for frame in with_end(frames, _end_frame, opened=True):
                yield frame

    async def stream(
        self, request: event_pb2.StreamEventsRequest, call: Call
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """The same, as the lines that an EventSource reads."""
        scope = await self._scope(request, call)
        with self._feed.attend(scope) as flag:
            place = await self._start(request, call)
            call.headers["cache-control"] = "no-cache"
            yield _body(_PING)
            bodies = self._followed(scope, place, flag, call, self._lines)
            async for body in with_end(bodies, _end_body, opened=True):
                yield body

    async def _scope(self, request: Request, call: Call) -> Scope:
        """What to show. A refusal comes before the first frame."""
        workspace_id = UUID(request.workspace_id) if request.workspace_id else None
        return await self._feed.scope_of(call.principal, workspace_id, request.types)

    async def _start(self, request: Request, call: Call) -> Position:
        """Where to begin. A refusal comes before the first frame."""
        return await self._feed.start(
            request.resume_after or call.metadata.get("last-event-id", "")
        )

    async def _followed(
        self,
        scope: Scope,
        place: Position,
        flag: Flag,
        call: Call,
        rendered: Callable[[Shown], T],
    ) -> AsyncGenerator[T, None]:
        with self._guards.watch(flag, call) as guard:
            async for shown in self._feed.follow(scope, place, guard):
                yield rendered(shown)

    def _frame(self, shown: Shown) -> Frame:
        if isinstance(shown, StoredEvent):
            return self._event_frame(shown)
        if isinstance(shown, Beat):
            beat = event_pb2.EventBeat(resume_token=shown.resume_token)
            beat.server_time.GetCurrentTime()
            return Frame(beat=beat)
        return Frame(drain=inbox_pb2.Drain(reconnect_after_ms=shown.reconnect_after_ms))

    def _lines(self, shown: Shown) -> httpbody_pb2.HttpBody:
        if isinstance(shown, StoredEvent):
            return self._event_body(shown)
        if isinstance(shown, Beat):
            return _body(_PING)
        return _body(f"retry: {shown.reconnect_after_ms}\n: drain\n\n")


class _OncePerEvent(Generic[T]):
    """What is rendered of an event: once for all readers, held as long as the event."""

    def __init__(self, render: Callable[[StoredEvent], T]) -> None:
        self._render = render
        self._rendered: WeakKeyDictionary[StoredEvent, T] = WeakKeyDictionary()

    def __call__(self, event: StoredEvent) -> T:
        rendered = self._rendered.get(event)
        if rendered is None:
            rendered = self._rendered[event] = self._render(event)
        return rendered


def _event_frame(tokens: ResumeTokens, stored: StoredEvent) -> Frame:
    return Frame(event=event_message(stored, tokens.make(stored.place, stored.created_at)))


def _end_frame(failure: CallFailure) -> Frame:
    end = inbox_pb2.End(code=int(failure.code), reason=failure.reason, message=failure.message)
    return Frame(end=end)


def _event_body(tokens: ResumeTokens, stored: StoredEvent) -> httpbody_pb2.HttpBody:
    body = {
        "type": stored.type,
        "event": stored.type,
        "workspace_id": str(stored.workspace_id) if stored.workspace_id else None,
        "timestamp": (stored.created_at - _EPOCH) // timedelta(milliseconds=1),
        "data": json.loads(stored.payload),
    }
    token = tokens.make(stored.place, stored.created_at)
    data = json.dumps(body, separators=(",", ":"))
    return _body(f"id: {token}\nevent: {stored.type}\ndata: {data}\n\n")


def _end_body(failure: CallFailure) -> httpbody_pb2.HttpBody:
    data = json.dumps({"code": int(failure.code), "reason": failure.reason})
    return _body(f"event: end\ndata: {data}\n\n")


def _body(text: str) -> httpbody_pb2.HttpBody:
    return httpbody_pb2.HttpBody(content_type="text/event-stream", data=text.encode())
