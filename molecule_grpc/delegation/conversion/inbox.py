"""Inboxes: requests to values, items and frames to protos."""

from __future__ import annotations

import contextlib
import json
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Generic, TypeVar
from uuid import UUID

from moleculeai.delegation.v1 import delegation_service_pb2 as pb
from moleculeai.delegation.v1 import inbox_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as workspace_pb

from molecule_grpc.delegation.conversion.frames import end as end_of
from molecule_grpc.delegation.inbox import frames
from molecule_grpc.delegation.inbox.inbox import PulledInbox
from molecule_grpc.delegation.inbox.store.reads import InboxRow
from molecule_grpc.delegation.inbox.streams import DEFAULT_WINDOW
from molecule_grpc.delegation.record.a2a import text_of
from molecule_grpc.kernel.errors import Invalid, Unauthenticated
from molecule_grpc.kernel.page import page_in_slices
from molecule_grpc.kernel.protos import timestamp
from molecule_grpc.server.status import CallFailure

AnswerHeartbeat = Callable[
    [workspace_pb.HeartbeatRequest], Awaitable[workspace_pb.HeartbeatResponse]
]


# A body of 16 KiB takes 0.1 ms to convert. 16 items of 256 KiB are 8 MiB at most.
_LARGE_CHARS = 16 * 1024
_MOST_LARGE = 16
_large: OrderedDict[tuple[int, int], tuple[InboxRow, inbox_pb2.InboxItem]] = OrderedDict()


# Requests.


def start_position(start: inbox_pb2.StartPosition) -> frames.StartPosition:
    """Where a stream begins."""
    return frames.StartPosition(
        after_seq=start.after_seq if start.HasField("after_seq") else None,
        generation=start.generation,
        since_seconds=start.since_seconds if start.HasField("since_seconds") else None,
        from_now=start.from_now,
        allow_gap=start.allow_gap,
    )


def hello(request: pb.SubscribeInboxRequest) -> frames.Hello:
    """How a consumer asks for an inbox.

    Raises:
        Invalid: the frame is not a hello.
    """
    if request.WhichOneof("frame") != "hello":
        raise Invalid("the first frame must be a hello", field="hello")
    said = request.hello
    return frames.Hello(
        workspace_id=UUID(said.workspace_id),
        consumer_id=said.consumer_id,
        start=start_position(said.start),
        max_in_flight=said.max_in_flight or DEFAULT_WINDOW,
        initial_credit=said.initial_credit if said.HasField("initial_credit") else None,
        takeover=said.takeover,
        resumes_epoch=said.resumes_epoch if said.HasField("resumes_epoch") else None,
    )


async def client_frames(
    requests: AsyncIterator[pb.SubscribeInboxRequest],
    workspace_id: UUID,
    answer_heartbeat: AnswerHeartbeat,
) -> AsyncIterator[frames.ClientFrame]:
    """The consumer's frames after its hello.

    Raises:
        Invalid: it is another hello.
        Unauthenticated: it is the heartbeat of another workspace.
    """
    own = str(workspace_id)
    async for request in requests:
        yield _client_frame(request, own, answer_heartbeat)


def _client_frame(
    request: pb.SubscribeInboxRequest, own: str, answer_heartbeat: AnswerHeartbeat
) -> frames.ClientFrame:
    match request.WhichOneof("frame"):
        case "ack":
            return frames.AckFrame(request.ack.up_to_seq, tuple(request.ack.seqs))
        case "nack":
            nack = request.nack
            return frames.NackFrame(nack.seq, retry_delay(nack), nack.reason)
        case "credit":
            return frames.CreditFrame(request.credit.n)
        case "heartbeat":
            if request.heartbeat.workspace_id.lower() != own:
                raise Unauthenticated("invalid workspace auth token")
            return frames.HeartbeatFrame(partial(answer_heartbeat, request.heartbeat))
        case "pong":
            return frames.PongFrame()
        case _:
            raise Invalid("hello must be the first frame, and only that", field="hello")


def retry_delay(nack: inbox_pb2.Nack | pb.NackInboxRequest) -> float:
    """Seconds before an item is delivered again."""
    return nack.retry_after.ToNanoseconds() / 1e9


# Answers.


def item(row: InboxRow, prev_seq: int) -> inbox_pb2.InboxItem:
    """An inbox item. Its text is looked for in the body, as A2A clients do.

    The newest large items are converted once for all streams that share their rows.
    """
    if len(row.body or "") < _LARGE_CHARS:
        return _converted(row, prev_seq)
    key = id(row), prev_seq
    known = _large.get(key)
    if known is None:
        # The row is kept beside its item, so that its id is no other row's meanwhile.
        known = _large[key] = row, _converted(row, prev_seq)
        if len(_large) > _MOST_LARGE:
            _large.popitem(last=False)
    return known[1]


def _converted(row: InboxRow, prev_seq: int) -> inbox_pb2.InboxItem:
    body = row.body
    return inbox_pb2.InboxItem(
        seq=row.seq,
        prev_seq=prev_seq,
        delivery=row.deliveries + 1,
        message_id=row.message_id,
        activity_id=str(row.activity_id),
        method=row.method,
        kind=inbox_pb2.InboxItem.peer_agent if row.source_id else inbox_pb2.InboxItem.canvas_user,
        source_id=str(row.source_id or ""),
        source_name=row.source_name or "",
        text=text_of(json.loads(body)) if body else "",
        delegation_id=row.delegation_id or "",
        status=row.status,
        body=body or "",
        body_ref="" if body else str(row.activity_id),
        created_at=timestamp(row.created_at),
        expires_at=timestamp(row.expires_at),
        late=row.late,
    )


async def pulled(inbox: PulledInbox) -> pb.PullInboxResponse:
    """What a pull found: as many items as fit in 3 MiB on the wire, at least one."""
    response = pb.PullInboxResponse(
        head_seq=inbox.head_seq,
        acked_seq=inbox.acked_seq,
        oldest_seq=inbox.oldest_seq,
        generation=inbox.generation,
    )
    before = [inbox.prev_seq, *(row.seq for row in inbox.items)]
    items = map(item, inbox.items, before)
    page = await page_in_slices(items, limit=len(inbox.items), size=inbox_pb2.InboxItem.ByteSize)
    response.items.extend(page.rows)
    return response


def _welcome(welcome: frames.Welcome) -> inbox_pb2.Welcome:
    message = inbox_pb2.Welcome(
        generation=welcome.generation,
        session_epoch=welcome.session_epoch,
        head_seq=welcome.head_seq,
        acked_seq=welcome.acked_seq,
        oldest_seq=welcome.oldest_seq,
    )
    message.server_time.GetCurrentTime()
    return message


def _gap(gap: frames.Gap) -> inbox_pb2.Gap:
    reason = inbox_pb2.Gap.Reason.Value(gap.reason)
    return inbox_pb2.Gap(from_seq=gap.from_seq, to_seq=gap.to_seq, reason=reason)


def _beat(beat: frames.Beat) -> inbox_pb2.Beat:
    message = inbox_pb2.Beat(head_seq=beat.head_seq, acked_seq=beat.acked_seq, paused=beat.paused)
    message.server_time.GetCurrentTime()
    return message


def _nack_result(result: frames.NackResult) -> inbox_pb2.NackResult:
    return inbox_pb2.NackResult(
        seq=result.seq, deliveries=result.deliveries, poisoned=result.poisoned
    )


# By kind of frame: the field of the response, and what makes its value.
_FRAMES: dict[type[frames.Frame], tuple[str, Callable[[Any], object]]] = {
    frames.Welcome: ("welcome", _welcome),
    frames.Gap: ("gap", _gap),
    frames.Item: ("item", lambda frame: item(frame.row, frame.prev_seq)),
    frames.Beat: ("beat", _beat),
    frames.AckResult: (
        "ack_result",
        lambda frame: inbox_pb2.AckResult(acked_seq=frame.acked_seq, head_seq=frame.head_seq),
    ),
    frames.NackResult: ("nack_result", _nack_result),
    frames.HeartbeatResult: ("heartbeat_result", lambda frame: frame.answer),
    frames.Drain: (
        "drain",
        lambda frame: inbox_pb2.Drain(reconnect_after_ms=frame.reconnect_after_ms),
    ),
    frames.Fenced: ("fenced", lambda frame: inbox_pb2.Fenced(holder=frame.holder)),
}

Response = TypeVar("Response")


class InboxResponses(Generic[Response]):
    """Makes the responses of one stream, and remembers the last item for its End.

    Args:
        response: makes a response from one of its fields.
    """

    def __init__(self, response: Callable[..., Response]) -> None:
        self._response = response
        self._starts_after = self._last_sent = 0

    async def of(
        self, stream: AsyncGenerator[frames.Frame, None]
    ) -> AsyncGenerator[Response, None]:
        """A response for each frame, and an End without an error when the client has left."""
        async with contextlib.aclosing(stream):
            async for frame in stream:
                if isinstance(frame, frames.Item):
                    self._last_sent = max(self._last_sent, frame.row.seq)
                elif isinstance(frame, frames.Welcome):
                    self._starts_after = frame.starts_after
                field, convert = _FRAMES[type(frame)]
                yield self._response(**{field: convert(frame)})
        yield self._response(end=inbox_pb2.End(last_seq=self._last_seq))

    def end(self, failure: CallFailure) -> Response:
        """The last response of a stream that the server ends with an error."""
        return self._response(end=end_of(failure, last_seq=self._last_seq))

    @property
    def _last_seq(self) -> int:
        return self._last_sent or self._starts_after
