"""Follows an inbox or a delegation without taking anything."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

import grpc
from moleculeai.delegation.v1 import delegation_service_pb2 as pb
from moleculeai.delegation.v1 import inbox_pb2

from molecule_grpc.client.connection import Connection
from molecule_grpc.client.delegation import Delegation
from molecule_grpc.client.errors import (
    CallError,
    OutOfRange,
    Unavailable,
    make_error,
    to_call_error,
)
from molecule_grpc.client.retry import Backoff, ends_for_good
from molecule_grpc.client.session import SILENCE_SECONDS, Drained

log = logging.getLogger(__name__)

Request = TypeVar("Request", pb.StreamInboxRequest, pb.WatchDelegationRequest)
Frame = TypeVar("Frame", pb.StreamInboxResponse, pb.WatchDelegationResponse)


async def watch_inbox(
    connection: Connection, workspace_id: str, start: inbox_pb2.StartPosition | None = None
) -> AsyncIterator[inbox_pb2.InboxItem]:
    """Items from `start` on (None: from the first undone one), for ever, without acking any.

    After a restore from a backup, again from the first undone one.

    Raises:
        CallError: a new stream would meet the same answer.
    """
    request = pb.StreamInboxRequest(workspace_id=workspace_id, start=start)
    generation, resumed = "", False
    while True:
        try:
            async for frame in _resumed(connection, connection.delegations.StreamInbox, request):
                if frame.HasField("welcome"):
                    generation = frame.welcome.generation
                if frame.HasField("item"):
                    yield frame.item
                    newest = max(frame.item.seq, request.start.after_seq)
                    request.start.Clear()
                    request.start.after_seq = newest
                    request.start.generation = generation
                    request.start.allow_gap = resumed = True
        except OutOfRange as error:
            if not resumed:  # the caller's own start
                raise
            log.warning("the inbox begins anew: %s", error)
            request.start.Clear()
            resumed = False
        else:
            return


async def watch_delegation(
    connection: Connection, workspace_id: str, delegation_id: str
) -> AsyncGenerator[Delegation, None]:
    """The delegation now, and again after every change, until the delegation has ended.

    Raises:
        CallError: a new stream would meet the same answer.
    """
    request = pb.WatchDelegationRequest(workspace_id=workspace_id, delegation_id=delegation_id)
    async for frame in _resumed(connection, connection.delegations.WatchDelegation, request):
        if frame.HasField("delegation"):
            found = Delegation.read(frame.delegation)
            yield found
            if found.final:
                return


async def _resumed(
    connection: Connection,
    method: grpc.aio.UnaryStreamMultiCallable[Request, Frame],
    request: Request,
) -> AsyncIterator[Frame]:
    """Frames of one stream after the other; each stream is opened with `request` of that moment."""
    backoff = Backoff(first=0.5, most=30.0)
    while True:
        try:
            call = method(request, metadata=connection.metadata)
            async with contextlib.aclosing(_frames(call)) as frames:
                async for frame in frames:
                    backoff.reset()
                    yield frame
            return
        except Drained as drain:
            await asyncio.sleep(drain.seconds)
        except CallError as error:
            if ends_for_good(error):
                raise
            await connection.pause(backoff)


async def _frames(
    call: grpc.aio.UnaryStreamCall[Request, Frame],
) -> AsyncGenerator[Frame, None]:
    """Frames until the server ends the stream without an error.

    Raises:
        Drained: the server asks to come back.
        CallError: the stream broke, was silent for 45 s, or ended with an error.
    """
    arriving = aiter(call)
    try:
        while True:
            async with asyncio.timeout(SILENCE_SECONDS):
                frame = await anext(arriving, None)
            if frame is None:
                raise Unavailable("the stream ended", code=grpc.StatusCode.UNAVAILABLE)
            if frame.HasField("drain"):
                raise Drained(frame.drain.reconnect_after_ms / 1000)
            if frame.HasField("end"):
                if frame.end.code:
                    end = frame.end
                    raise make_error(end.message, code=end.code, reason=end.reason)
                return
            yield frame
    except grpc.aio.AioRpcError as error:
        raise to_call_error(error) from error
    except TimeoutError:
        raise Unavailable("the stream is silent", code=grpc.StatusCode.UNAVAILABLE) from None
    finally:
        call.cancel()
