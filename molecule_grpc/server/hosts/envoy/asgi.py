"""Carries calls between Envoy and the pipeline, as an ASGI application inside Envoy's process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping

import structlog
from google.protobuf.message import Message

from molecule_grpc.kernel.errors import MoleculeError, NotFound, Unavailable, Unsupported
from molecule_grpc.server.hosts.envoy.exchange import Event, Exchange, Receive, Send
from molecule_grpc.server.hosts.envoy.open_calls import OpenCalls
from molecule_grpc.server.hosts.requests import parse, parsed
from molecule_grpc.server.hosts.stream_writer import StreamWriter
from molecule_grpc.server.methods import Method
from molecule_grpc.server.pipeline import Pipeline
from molecule_grpc.server.status import CallFailure, render
from molecule_grpc.server.unread import Unread

log = structlog.get_logger(__name__)

Page = Callable[[Event, Send], Awaitable[None]]
Serve = Callable[[Exchange], Awaitable[None]]


class AsgiHost:
    """Serves methods through the pipeline, and a few pages that are no RPCs.

    Args:
        unread: counts what clients of streams have not taken.
        native: RPCs that pass by the pipeline, by path: health and reflection.
        pages: what answers a plain GET, by path.
        write_seconds: a stream ends whose client takes no message for this many seconds.
    """

    def __init__(
        self,
        methods: Iterable[Method],
        pipeline: Pipeline,
        unread: Unread,
        *,
        native: Mapping[str, Serve],
        pages: Mapping[str, Page],
        write_seconds: float,
    ) -> None:
        self._pipeline = pipeline
        self._unread = unread
        self._write_seconds = write_seconds
        self._pages = {path.encode(): page for path, page in pages.items()}
        self._serve = {path.encode(): serve for path, serve in native.items()}
        self._serve |= {method.path.encode(): self._served(method) for method in methods}
        self.open_calls = OpenCalls()

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        path = scope["raw_path"]
        if page := self._pages.get(path):
            with self.open_calls.kept():
                await page(scope, send)
            return
        exchange = Exchange(scope, receive, send)
        try:
            with self.open_calls.open(exchange):
                await self._serve.get(path, _unknown)(exchange)
        except asyncio.CancelledError:
            await self._cancelled(exchange)
        except OSError:
            return  # The client has left while it was answered.

    async def _cancelled(self, exchange: Exchange) -> None:
        if exchange.left:
            return
        late = exchange.ends_at is not None and time.monotonic() >= exchange.ends_at
        reason = "DEADLINE_EXCEEDED" if late else "DRAINING"
        text = "the call took too long" if late else "the server stops"
        with contextlib.suppress(OSError):
            await exchange.refuse(render(Unavailable(text, reason=reason)))

    def _served(self, method: Method) -> Serve:
        if method.server_streaming:
            return self._streams(method)
        return self._collects(method) if method.client_streaming else self._answers(method)

    def _answers(self, method: Method) -> Serve:
        pipeline = self._pipeline

        async def serve(exchange: Exchange) -> None:
            try:
                request = parse(method, await _only_message(exchange))
                response = await pipeline.unary(method, request, exchange.call)
            except CallFailure as failure:
                await exchange.refuse(failure)
                return
            await exchange.answer(response)

        return serve

    def _collects(self, method: Method) -> Serve:
        async def serve(exchange: Exchange) -> None:
            requests = _requests(method, exchange)
            try:
                response = await self._pipeline.collect(method, requests, exchange.call)
            except CallFailure as failure:
                if exchange.call.rest:
                    await exchange.drain()
                await exchange.refuse(failure)
                return
            await exchange.answer(response)

        return serve

    def _streams(self, method: Method) -> Serve:
        async def serve(exchange: Exchange) -> None:
            requests = _requests(method, exchange)
            responses = self._pipeline.stream(method, requests, exchange.call)
            writer = StreamWriter(
                exchange.write, responses, self._unread, self._write_seconds, rpc=method.path
            )
            try:
                async for response in responses:
                    await writer.write(response)
            except CallFailure as failure:
                await exchange.refuse(failure)
                return
            finally:
                writer.close()
            await exchange.end()

        return serve


async def _unknown(exchange: Exchange) -> None:
    unknown: MoleculeError = Unsupported("Method not found!", reason="UNIMPLEMENTED")
    if exchange.call.rest:  # a path of the contract that this port does not serve
        unknown = NotFound("not found")
    await exchange.refuse(render(unknown))


async def _only_message(exchange: Exchange) -> bytes:
    """The one request of a unary call.

    Raises:
        CallFailure: there is none that can be read.
    """
    try:
        exchange.require_modest_headers()
        message = await exchange.first()
    except MoleculeError as error:
        raise render(error) from error
    if message is None:
        raise render(MoleculeError("the request has no message"))
    return message


async def _requests(method: Method, exchange: Exchange) -> AsyncIterator[Message]:
    exchange.require_modest_headers()
    async for message in parsed(method, exchange.messages()):
        yield message
