"""Classifies calls to agents that failed: broken off, or answered with an error that is no JSON."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field

import aiohttp
import structlog

from molecule_grpc.delegation.outbound import replies
from molecule_grpc.delegation.outbound.outcome import Delivered, Failed, SendFailure

log = structlog.get_logger(__name__)

CONNECT_SECONDS = 10.0

# Start of aiohttp's message for a first line that is not HTTP.
_NO_HTTP = "Bad status line"
# Most characters of an error that is not JSON which are passed on to the sender.
EXCERPT_CHARS = 500
_MAX_RETRY_AFTER_SECONDS = 300.0


class TooLarge(Exception):
    """The answer is longer than `max_response_bytes`."""


class Silent(Exception):
    """The agent gave no sign of life in time; the message says how long that is."""


@dataclass(slots=True)
class Progress:
    """How far a call has come. `heard` is `time.monotonic()` of the last sign of life."""

    status: int | None = None
    retry_after: float | None = None
    heard: float = field(default_factory=time.monotonic)


def failure_of(error: Exception, progress: Progress, started: float) -> Delivered | Failed:
    """The outcome of a call that broke off with this error."""
    detail = _detail(error)
    if progress.status is not None:
        if progress.status < 300:
            return Failed(SendFailure.UNREADABLE, f"the agent's answer was lost: {detail}")
        return error_answer(progress, started, b"")
    return Failed(_class_of(error), detail)


def _class_of(error: Exception) -> SendFailure:
    """The failure of a call that broke off before the status line arrived."""
    match error:
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            return SendFailure.UNREACHABLE
        case aiohttp.ClientResponseError(message=text) if not text.startswith(_NO_HTTP):
            # The agent answered in HTTP, but its headers could not be read.
            return SendFailure.UNREADABLE
        case aiohttp.ServerDisconnectedError() | OSError() | Silent():  # OSError: TimeoutError too
            return SendFailure.BUSY
        case aiohttp.ClientError():
            return SendFailure.UNREACHABLE
        case _:
            log.error("dispatch broke off", exc_info=error)
            return SendFailure.UNREACHABLE


def error_answer(progress: Progress, started: float, data: bytes) -> Delivered:
    """An agent's HTTP error without a JSON body, as an answer with one."""
    assert progress.status is not None
    said: dict[str, object] = {"error": f"the workspace agent answered {progress.status}"}
    if excerpt := data.decode(errors="replace")[:EXCERPT_CHARS].replace("\x00", ""):
        said["detail"] = excerpt
    body = json.dumps(said, separators=(",", ":")).encode()
    reply = replies.read(body)
    assert reply is not None
    return Delivered(progress.status, body, reply, milliseconds(started), progress.retry_after)


# Texts for the sender, by the first kind that fits. No text has an address: it may be internal.
_DETAILS: tuple[tuple[type[Exception], str], ...] = (
    (TooLarge, "it is larger than the limit"),
    (aiohttp.ClientConnectorDNSError, "its host cannot be resolved"),
    (aiohttp.ConnectionTimeoutError, f"no connection within {CONNECT_SECONDS:.0f} s"),
    (aiohttp.ClientSSLError, "no TLS connection could be made"),
    (aiohttp.ClientConnectorError, "the connection was refused"),
    (TimeoutError, "it took too long"),
    (aiohttp.ClientResponseError, "it does not speak proper HTTP"),
)


def _detail(error: Exception) -> str:
    if isinstance(error, Silent):
        return str(error)
    return next(
        (text for kind, text in _DETAILS if isinstance(error, kind)), "the connection was closed"
    )


def seconds(text: str) -> float | None:
    """Seconds of a `Retry-After`, at most 300; None for a date or another text."""
    if not (text.isascii() and text.isdigit()):
        return None
    return min(float(text[:6]), _MAX_RETRY_AFTER_SECONDS)


def milliseconds(started: float) -> int:
    """Milliseconds since `started`, by `time.monotonic()`."""
    return min(round((time.monotonic() - started) * 1000), 2**31 - 1)
