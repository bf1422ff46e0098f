"""Readers of an inbox, frame by frame: over gRPC with a lease or without, and over SSE."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import grpc
from moleculeai.delegation.v1 import delegation_service_pb2 as pb
from moleculeai.delegation.v1 import delegation_service_pb2_grpc as stubs
from moleculeai.delegation.v1 import inbox_pb2

from molecule_grpc.client.final_status import FinalStatus
from tests.e2e.parties import Agent, Refused, refused
from tests.waiting import PATIENCE

Request = pb.SubscribeInboxRequest


class Reader:
    """Frames of one stream."""

    def __init__(self, call: grpc.aio.Call) -> None:
        self._call: Any = call
        self._final = FinalStatus(call)
        self._kept: deque[Any] = deque()
        self.welcome = inbox_pb2.Welcome()

    async def frame(self, *, beats: bool = False) -> Any:
        """The next frame; beats are passed over unless they are asked for.

        Raises:
            Refused: the stream ended instead.
        """
        if self._kept:
            return self._kept.popleft()
        async with asyncio.timeout(PATIENCE):
            while True:
                frame = await self._read()
                if beats or frame.WhichOneof("frame") != "beat":
                    return frame

    async def _read(self) -> Any:
        try:
            frame = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise refused(await self._final.of(error)) from None
        if frame is grpc.aio.EOF:
            await self.status()
            raise EOFError
        return frame

    async def of(self, kind: str) -> Any:
        """The next frame of this kind. What comes before it is kept for later, but for beats."""
        async with asyncio.timeout(PATIENCE):
            while True:
                frame = await self._read()
                found = frame.WhichOneof("frame")
                if found == kind:
                    return getattr(frame, kind)
                if found != "beat":
                    self._kept.append(frame)

    async def item(self) -> inbox_pb2.InboxItem:
        """The next frame, which must be an item."""
        frame = await self.frame()
        assert frame.WhichOneof("frame") == "item", frame
        item: inbox_pb2.InboxItem = frame.item
        return item

    async def items(self, count: int) -> list[inbox_pb2.InboxItem]:
        """The next frames, which must be so many items."""
        return [await self.item() for _ in range(count)]

    async def quiet(self) -> None:
        """Nothing is on its way: two beats come without anything between them."""
        assert not self._kept, self._kept
        await self.of("beat")
        frame = await self.frame(beats=True)
        assert frame.WhichOneof("frame") == "beat", frame

    async def status(self) -> None:
        """Return when the stream ended well.

        Raises:
            Refused: it did not.
        """
        async with asyncio.timeout(PATIENCE):
            code = await self._call.code()
        if code is not grpc.StatusCode.OK:
            details, trailers = await self._call.details(), await self._call.trailing_metadata()
            error = grpc.aio.AioRpcError(code, None, trailers, details)
            raise refused(await self._final.of(error))

    async def end(self) -> tuple[inbox_pb2.End, Refused]:
        """The last frame, and the status that follows."""
        last = await self.of("end")
        try:
            await self.frame()
        except Refused as error:
            return last, error
        raise AssertionError("the stream goes on after its end")

    def break_off(self) -> None:
        """Leave as a client that dies."""
        self._call.cancel()


class Holder(Reader):
    """The one consumer of an inbox."""

    async def send(self, **frame: Any) -> None:
        """One frame to the server.

        Raises:
            Refused: the stream has ended.
        """
        try:
            await self._call.write(Request(**frame))
        except grpc.aio.AioRpcError as error:
            raise refused(await self._final.of(error)) from None
        except asyncio.InvalidStateError:  # it had ended before
            await self.status()
            raise

    async def ack(self, *seqs: int, up_to: int | None = None) -> inbox_pb2.AckResult:
        """Say that items are done, and wait until that is committed."""
        await self.send(ack=inbox_pb2.Ack(seqs=seqs, up_to_seq=up_to))
        result: inbox_pb2.AckResult = await self.of("ack_result")
        return result

    async def nack(self, seq: int, seconds: float = 0, reason: str = "") -> inbox_pb2.NackResult:
        """Give an item back, and wait until that is committed."""
        nack = inbox_pb2.Nack(seq=seq, reason=reason)
        nack.retry_after.FromMilliseconds(round(seconds * 1000))
        await self.send(nack=nack)
        result: inbox_pb2.NackResult = await self.of("nack_result")
        return result

    async def close_own_side(self) -> None:
        """Send nothing more."""
        await self._call.done_writing()

    async def leave(self) -> None:
        """Leave in good order."""
        await self.close_own_side()
        with contextlib.suppress(EOFError):
            while True:
                await self.frame()


@contextlib.asynccontextmanager
async def holding(agent: Agent, consumer: str = "one", **hello: Any) -> AsyncIterator[Holder]:
    """Hold this agent's inbox.

    Raises:
        Refused: the server does not let it.
    """
    stub = stubs.DelegationServiceStub(agent.wire.channel)
    holder = Holder(stub.SubscribeInbox(metadata=tuple(agent.headers.items())))
    try:
        await holder.send(hello=Request.Hello(workspace_id=agent.id, consumer_id=consumer, **hello))
        holder.welcome = (await holder.frame()).welcome
        yield holder
    finally:
        holder.break_off()


@contextlib.asynccontextmanager
async def reading(agent: Agent, **request: Any) -> AsyncIterator[Reader]:
    """Read this agent's inbox without taking it."""
    stub = stubs.DelegationServiceStub(agent.wire.channel)
    reader = Reader(
        stub.StreamInbox(
            pb.StreamInboxRequest(workspace_id=agent.id, **request),
            metadata=tuple(agent.headers.items()),
        )
    )
    try:
        reader.welcome = (await reader.frame()).welcome
        yield reader
    finally:
        reader.break_off()


class Feed:
    """A stream of server-sent events, as a browser reads it."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines

    async def frame(self, *, beats: bool = False) -> dict[str, Any]:
        """The next frame. Raises `EOFError` when the response is over."""
        async with asyncio.timeout(PATIENCE):
            async for line in self._lines:
                if line.startswith("data:"):
                    frame: dict[str, Any] = json.loads(line.removeprefix("data:"))
                    if beats or "beat" not in frame:
                        return frame
        raise EOFError


@contextlib.asynccontextmanager
async def listening(agent: Agent, **params: Any) -> AsyncIterator[Feed]:
    """Read this agent's inbox over SSE."""
    path = f"/workspaces/{agent.id}/inbox/stream"
    headers = {**agent.headers, "accept": "text/event-stream"}
    async with agent.wire.http.stream(
        "GET", path, params=params, headers=headers, timeout=PATIENCE
    ) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"] == "text/event-stream"
        yield Feed(answer.aiter_lines())


async def tell(sender: Agent, target: Agent, text: str, **message: Any) -> None:
    """Send an A2A message over REST."""
    parts = [{"kind": "text", "text": text}]
    body = {"method": "message/send", "params": {"message": {"parts": parts, **message}}}
    answer = await sender.rest("POST", f"/workspaces/{target.id}/a2a", body)
    assert answer.status_code == 200, answer.text


async def tell_many(sender: Agent, target: Agent, count: int, start: int = 0) -> None:
    """So many messages, one after the other, numbered in their text."""
    for n in range(start, start + count):
        await tell(sender, target, str(n))
