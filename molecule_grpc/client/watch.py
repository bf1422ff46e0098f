"""An inbox read without holding it: what operators and dashboards look at."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
from moleculeai.delegation.v1 import delegation_service_pb2 as pb
from moleculeai.delegation.v1 import inbox_pb2

from molecule_grpc.client.connection import Connection
from molecule_grpc.client.errors import CallError, make_error, to_call_error
from molecule_grpc.client.retry import Backoff, ends_for_good

_SILENCE_SECONDS = 45.0


@dataclass(slots=True)
class _Place:
    """Where to go on."""

    start: inbox_pb2.StartPosition
    wait: float = 0.0


async def watch(
    connection: Connection, workspace_id: str, start: inbox_pb2.StartPosition | None = None
) -> AsyncIterator[inbox_pb2.InboxItem]:
    """Items from `start` on, by default from the first undone one, for ever.

    Raises:
        CallError: coming back would meet the same answer.
    """
    place = _Place(start or inbox_pb2.StartPosition())
    backoff = Backoff(first=0.5, most=30.0)
    while True:
        try:
            async for item in _session(connection, workspace_id, place):
                backoff.reset()
                yield item
            wait = place.wait
        except CallError as error:
            if ends_for_good(error):
                raise
            wait = backoff.next_wait()
        await asyncio.sleep(wait)


async def _session(
    connection: Connection, workspace_id: str, place: _Place
) -> AsyncIterator[inbox_pb2.InboxItem]:
    """One stream, until the server asks to come back."""
    request = pb.StreamInboxRequest(workspace_id=workspace_id, start=place.start)
    call = connection.delegations.StreamInbox(request, metadata=connection.metadata)
    try:
        while True:
            async with asyncio.timeout(_SILENCE_SECONDS):
                frame = await call.read()
            if not isinstance(frame, pb.StreamInboxResponse):
                return
            if frame.HasField("item"):
                yield frame.item
                _go_on_after(place, frame.item.seq)
            elif frame.HasField("drain"):
                place.wait = frame.drain.reconnect_after_ms / 1000
                return
            elif frame.HasField("end"):
                raise make_error(frame.end.message, code=frame.end.code, reason=frame.end.reason)
    except grpc.aio.AioRpcError as error:
        raise to_call_error(error) from error
    except TimeoutError:
        return
    finally:
        call.cancel()


def _go_on_after(place: _Place, seq: int) -> None:
    newest = max(seq, place.start.after_seq)
    place.start.Clear()
    place.start.after_seq = newest
    place.start.allow_gap = True
