"""How the server ended a call that sends a stream of requests, where gRPC's library hides it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

import grpc

from molecule_grpc.client.errors import LIBRARY_FAILED

T = TypeVar("T")

_WAIT_SECONDS = 1.0
_LOOK_SECONDS = 0.01


class FinalStatus:
    """The server's status of one call, made as soon as the call is.

    When the server ends a call while a request is being written, grpc.aio 1.85 sets INTERNAL with
    `Internal error from Core`: in the place of the server's status, or shortly before that comes.
    """

    def __init__(self, call: grpc.aio.Call) -> None:
        self._call = call
        self._first: grpc.aio.AioRpcError | None = None
        # Called as the first status is set, before another can take its place.
        call.add_done_callback(self._note)

    async def of(self, error: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
        """The error that the call failed with by the server's own status.

        Args:
            error: what the library raised. Returned when the server said nothing else within 1 s.
        """
        if not _is_the_librarys(error):
            return error
        servers = self._first
        if servers is None or _is_the_librarys(servers):
            servers = await self._later()
        hidden = _is_the_librarys(servers) or servers.code() is grpc.StatusCode.OK
        return error if hidden else servers

    async def _later(self) -> grpc.aio.AioRpcError:
        """The status that follows the library's own; still that one after 1 s."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WAIT_SECONDS):
                # The library calls back for the first status alone.
                while _is_the_librarys(_error_of(self._call)):  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK_SECONDS)
        return _error_of(self._call)

    def _note(self, call: grpc.aio.Call) -> None:
        self._first = _error_of(call)


def _is_the_librarys(error: grpc.aio.AioRpcError) -> bool:
    return error.code() is grpc.StatusCode.INTERNAL and error.details() == LIBRARY_FAILED


def _error_of(call: grpc.aio.Call) -> grpc.aio.AioRpcError:
    """The status of a call that has one, as an error."""
    return grpc.aio.AioRpcError(
        _at_once(call.code()),
        _at_once(call.initial_metadata()),
        _at_once(call.trailing_metadata()),
        _at_once(call.details()),
    )


def _at_once(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns that has nothing to wait for."""
    try:
        work.send(None)
    except StopIteration as done:
        return cast("T", done.value)
    work.close()
    raise AssertionError("the call has no status yet")
