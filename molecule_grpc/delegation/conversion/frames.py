"""Frames that every stream of the slice has: a beat, a drain and the end."""

from __future__ import annotations

from moleculeai.delegation.v1 import inbox_pb2

from molecule_grpc.server.status import CallFailure

RECONNECT_MS = 500


def beat() -> inbox_pb2.Beat:
    """A sign that the stream is alive, with the server's time."""
    message = inbox_pb2.Beat()
    message.server_time.GetCurrentTime()
    return message


def drain() -> inbox_pb2.Drain:
    """The client must come back elsewhere, after 500 ms."""
    return inbox_pb2.Drain(reconnect_after_ms=RECONNECT_MS)


def end(failure: CallFailure, *, last_seq: int = 0) -> inbox_pb2.End:
    """The last frame of a stream that the server ends with an error."""
    return inbox_pb2.End(
        code=int(failure.code),
        reason=failure.reason,
        message=failure.message,
        last_seq=last_seq,
    )
