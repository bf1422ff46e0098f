"""What it means when a call to an agent breaks off, or its error is no JSON."""

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

# How the library's message begins when not even the first line is HTTP.
_NO_HTTP = "Bad status line"
# What an agent may say beside an error that is not JSON.
EXCERPT_CHARS = 500
_MAX_RETRY_AFTER_SECONDS = 300.0


class TooLarge(Exception):
    """The answer exceeds what is taken."""


class Silent(Exception):
    """Time is up."""


@dataclass(slots=True)
class Progress:
    """How far a call has come. `heard` is `time.monotonic()` of the last byte."""

    status: int | None = None
    retry_after: float | None = None
    heard: float = field(default_factory=time.monotonic)


def failure_of(error: Exception, progress: Progress, started: float) -> Delivered | Failed:
    """What a call that broke off means."""
    detail = _detail(error)
    if progress.status is not None:
        if progress.status < 300:
            return Failed(SendFailure.UNREADABLE, f"the agent's answer was lost: {detail}")
        return error_answer(progress, started, b"")
    return Failed(_class_of(error), detail)


def _class_of(error: Exception) -> SendFailure:
    """The class of a call that broke off before there was a status."""
    match error:
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            return SendFailure.UNREACHABLE
        case aiohttp.ClientResponseError(message=text) if not text.startswith(_NO_HTTP):
            # It answered in HTTP, and with what came after the status all of it was lost.
            return SendFailure.UNREADABLE
        case aiohttp.ServerDisconnectedError() | OSError() | Silent():  # OSError: TimeoutError too
            return SendFailure.BUSY
        case aiohttp.ClientError():
            return SendFailure.UNREACHABLE
        case _:
            log.error("dispatch broke off", exc_info=error)
            return SendFailure.UNREACHABLE


def error_answer(progress: Progress, started: float, data: bytes) -> Delivered:
    """An error of the agent whose body is no JSON, as one that is."""
    assert progress.status is not None
    said: dict[str, object] = {"error": f"the workspace agent answered {progress.status}"}
    if excerpt := data.decode(errors="replace")[:EXCERPT_CHARS].replace("\x00", ""):
        said["detail"] = excerpt
    body = json.dumps(said, separators=(",", ":")).encode()
    reply = replies.read(body)
    assert reply is not None
    return Delivered(progress.status, body, reply, milliseconds(started), progress.retry_after)


# The first kind that fits. For people, and never an address: it may be one of the inner network.
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
    """A `Retry-After` in seconds, at most 5 minutes; None when it is a date or nonsense."""
    if not (text.isascii() and text.isdigit()):
        return None
    return min(float(text[:6]), _MAX_RETRY_AFTER_SECONDS)


def milliseconds(started: float) -> int:
    """Since then, by `time.monotonic()`."""
    return min(round((time.monotonic() - started) * 1000), 2**31 - 1)
