"""One SubscribeInbox stream, from Hello to end. No state outlives the stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import grpc
from moleculeai.delegation.v1 import delegation_service_pb2 as pb
from moleculeai.delegation.v1 import inbox_pb2
from moleculeai.workspace.v1 import workspace_service_pb2

from molecule_grpc.client.connection import Connection
from molecule_grpc.client.errors import Unavailable, make_error, to_call_error
from molecule_grpc.client.final_status import FinalStatus

# The server sends a beat every 15 s: after three missed ones the connection is dead.
SILENCE_SECONDS = 45.0
_LEAVE_SECONDS = 1.0

Frame = pb.SubscribeInboxResponse
BuildHeartbeat = Callable[[], workspace_service_pb2.HeartbeatRequest]


@dataclass(slots=True)
class Drained(Exception):
    """The server drains: open the next stream after `seconds`."""

    seconds: float


class Session:
    """Frames in, frames out.

    The iteration over `frames` always ends by an error: `Drained`, or a `CallError` when the stream
    broke or the server ended the stream.
    """

    def __init__(self, connection: Connection, hello: pb.SubscribeInboxRequest.Hello) -> None:
        self._connection = connection
        self._hello = hello
        self._outgoing: asyncio.Queue[pb.SubscribeInboxRequest | None] = asyncio.Queue()
        self._highest: int | None = None
        self._ended = asyncio.Event()
        self.epoch = 0

    async def frames(
        self, heartbeat: BuildHeartbeat | None, every: float
    ) -> AsyncIterator[pb.SubscribeInboxResponse]:
        """The frames of the server, Welcome first.

        Args:
            heartbeat: builds the heartbeats to send; None sends none.
            every: seconds between two heartbeats.

        Raises:
            Drained: the server asks to come back.
            CallError: the stream broke, was silent for 45 s, or was ended by the server.
        """
        self._outgoing.put_nowait(pb.SubscribeInboxRequest(hello=self._hello))
        call = self._connection.delegations.SubscribeInbox(
            self._requests(), metadata=self._connection.metadata
        )
        status = FinalStatus(call)
        beating: asyncio.Task[None] | None = None
        try:
            while True:
                frame = await self._read(call, status)
                self._check(frame)
                if frame.HasField("welcome"):
                    self.epoch = frame.welcome.session_epoch
                    if heartbeat is not None:
                        beating = asyncio.create_task(self._beat(heartbeat, every))
                elif frame.HasField("beat"):
                    self._send(pb.SubscribeInboxRequest(pong=pb.SubscribeInboxRequest.Pong()))
                yield frame
        finally:
            self._ended.set()
            self._outgoing.put_nowait(None)  # gRPC reads the request iterator until it ends
            if beating is not None:
                beating.cancel()
            call.cancel()

    def credit(self, items: int) -> None:
        """Allow the server to send `items` more."""
        self._send(pb.SubscribeInboxRequest(credit=pb.SubscribeInboxRequest.Credit(n=items)))

    def ack(self, seq: int) -> None:
        """Mark an item of this session as done."""
        self._send(pb.SubscribeInboxRequest(ack=inbox_pb2.Ack(seqs=[seq])))

    def nack(self, seq: int, *, retry_after: float, reason: str) -> None:
        """Give an item of this session back, to come again after `retry_after` seconds."""
        nack = inbox_pb2.Nack(seq=seq, reason=_cut(reason))
        nack.retry_after.FromMilliseconds(round(retry_after * 1000))
        self._send(pb.SubscribeInboxRequest(nack=nack))

    async def leave(self) -> None:
        """Close our side, and wait up to 1 s for the server to have read all frames."""
        self._outgoing.put_nowait(None)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAVE_SECONDS):
                await self._ended.wait()

    def _send(self, request: pb.SubscribeInboxRequest) -> None:
        self._outgoing.put_nowait(request)

    async def _requests(self) -> AsyncIterator[pb.SubscribeInboxRequest]:
        while (request := await self._outgoing.get()) is not None:
            yield request

    async def _beat(self, heartbeat: BuildHeartbeat, every: float) -> None:
        while True:
            self._send(pb.SubscribeInboxRequest(heartbeat=heartbeat()))
            await asyncio.sleep(every)

    async def _read(
        self,
        call: grpc.aio.StreamStreamCall[pb.SubscribeInboxRequest, Frame],
        status: FinalStatus,
    ) -> Frame:
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                frame = await call.read()
        except grpc.aio.AioRpcError as error:
            raise to_call_error(await status.of(error)) from error
        except TimeoutError:
            raise Unavailable(
                f"the inbox was silent for {SILENCE_SECONDS:.0f} s",
                code=grpc.StatusCode.UNAVAILABLE,
            ) from None
        if not isinstance(frame, Frame):
            raise _stream_ended()
        return frame

    def _check(self, frame: Frame) -> None:
        """Raise when this frame ends the session, or shows that items are missing before it."""
        if frame.HasField("drain"):
            raise Drained(frame.drain.reconnect_after_ms / 1000)
        if frame.HasField("fenced"):
            holder = frame.fenced.holder
            raise make_error(
                f"another consumer took the inbox over: {holder}" if holder else _FENCED,
                code=grpc.StatusCode.FAILED_PRECONDITION,
                reason="FENCED",
                metadata={"holder": holder},
            )
        if frame.HasField("end"):
            end = frame.end
            if not end.code:  # the answer to `leave`
                raise _stream_ended()
            raise make_error(end.message, code=end.code, reason=end.reason)
        if frame.HasField("item"):
            self._check_complete(frame.item)

    def _check_complete(self, item: inbox_pb2.InboxItem) -> None:
        if self._highest is not None and item.prev_seq != self._highest:
            raise Unavailable(
                f"item {item.seq} follows {item.prev_seq}, but the last one was {self._highest}",
                code=grpc.StatusCode.UNAVAILABLE,
            )
        self._highest = max(self._highest or 0, item.seq)


_FENCED = "another consumer took the inbox over"


def _stream_ended() -> Unavailable:
    return Unavailable("the stream ended", code=grpc.StatusCode.UNAVAILABLE)


def _cut(reason: str) -> str:
    return reason.encode()[:1000].decode(errors="ignore")
