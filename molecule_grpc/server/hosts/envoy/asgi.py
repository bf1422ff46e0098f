"""Carries calls between Envoy and the pipeline, as an ASGI application inside Envoy's process."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Iterable, Mapping

import structlog

from molecule_grpc.kernel.errors import MoleculeError, NotFound, Unsupported
from molecule_grpc.server.hosts.envoy.exchange import Event, Exchange, Receive, Send
from molecule_grpc.server.hosts.envoy.native import Serve
from molecule_grpc.server.hosts.envoy.open_calls import OpenCalls
from molecule_grpc.server.hosts.envoy.pages import Page, failed
from molecule_grpc.server.hosts.requests import parse, parsed
from molecule_grpc.server.hosts.stream_writer import StreamWriter
from molecule_grpc.server.methods import Method
from molecule_grpc.server.pipeline import Pipeline
from molecule_grpc.server.status import CallFailure, render, render_bug
from molecule_grpc.server.unread import Unread

log = structlog.get_logger(__name__)


class AsgiHost:
    """Serves methods through the pipeline, and a few pages that are no RPCs.

    Args:
        unread: counts what clients of streams have not taken.
        native: RPCs that pass by the pipeline, by path: health and reflection.
        pages: what answers a plain GET, by path.
        write_seconds: a stream ends whose client takes no message for this many seconds.
        call_seconds: a unary call ends after so many seconds, unless its method may last.
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
        call_seconds: float,
    ) -> None:
        self._pipeline = pipeline
        self._unread = unread
        self._write_seconds = write_seconds
        self._call_seconds = call_seconds
        methods = list(methods)
        self._services = {method.service for method in methods}
        self._pages = {path.encode(): page for path, page in pages.items()}
        self._serve = {path.encode(): serve for path, serve in native.items()}
        self._serve |= {method.path.encode(): self._served(method) for method in methods}
        self.open_calls = OpenCalls()

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        path = scope["raw_path"]
        if page := self._pages.get(path):
            await self._show(page, scope, send)
            return
        exchange = Exchange(scope, receive, send)
        serve = self._serve.get(path)
        if serve is None or scope["query_string"]:
            serve = self._unknown
        elif scope["method"] != "POST":
            serve = _no_post
        with self.open_calls.open(exchange), contextlib.suppress(OSError):  # the client has left
            try:
                exchange.require_fit()
                await serve(exchange)
            except CallFailure as failure:
                await exchange.refuse(failure)
            except asyncio.CancelledError:
                if exchange.ending is not None:
                    await exchange.refuse(exchange.ending)
                elif not exchange.left:
                    raise  # Envoy resets the call, and frees what its client has not read.
            except OSError:
                raise
            except Exception as error:  # noqa: BLE001  (Envoy's module would print it, torn)
                await exchange.refuse(_bug(exchange.path, error))

    async def _show(self, page: Page, scope: Event, send: Send) -> None:
        with self.open_calls.kept():
            try:
                await page(scope, send)
            except Exception as error:  # noqa: BLE001  (likewise)
                await failed(send, _bug(scope["path"], error).message)

    async def _unknown(self, exchange: Exchange) -> None:
        service = exchange.path.rpartition("/")[0][1:]
        if exchange.call.rest:  # a path of the contract that this port does not serve
            raise render(NotFound("not found"))
        text = "Method not found!" if service in self._services else "not found"
        raise render(Unsupported(text, reason="UNIMPLEMENTED"))

    def _served(self, method: Method) -> Serve:
        if method.server_streaming:
            return self._streams(method)
        return self._collects(method) if method.client_streaming else self._answers(method)

    def _answers(self, method: Method) -> Serve:
        pipeline, lasts = self._pipeline, method.policy.lasts

        async def serve(exchange: Exchange) -> None:
            request = parse(method.request_type, await _only_message(exchange))
            if not lasts:
                exchange.limit(self._call_seconds)
            with self.open_calls.heard_out(exchange):
                response = await pipeline.unary(method, request, exchange.call)
            await exchange.answer(response)

        return serve

    def _collects(self, method: Method) -> Serve:
        async def serve(exchange: Exchange) -> None:
            requests = parsed(method.request_type, exchange.messages())
            try:
                response = await self._pipeline.collect(method, requests, exchange.call)
            except CallFailure:
                if exchange.call.rest:
                    await exchange.drain()
                raise
            await exchange.answer(response)

        return serve

    def _streams(self, method: Method) -> Serve:
        async def serve(exchange: Exchange) -> None:
            requests = parsed(method.request_type, exchange.messages())
            responses = self._pipeline.stream(method, requests, exchange.call)
            writer = StreamWriter(
                exchange.write, responses, self._unread, self._write_seconds, rpc=method.path
            )
            try:
                async for response in responses:
                    await writer.write(response)
            except CallFailure:
                if method.client_streaming and not exchange.arrived:
                    await writer.settle()
                raise
            finally:
                writer.close()
            await exchange.end()

        return serve


def _bug(path: str, error: Exception) -> CallFailure:
    """What no call should meet: for the log by its incident, which the caller reads, too."""
    incident = uuid.uuid4().hex[:12]
    log.error("the host failed", path=path, incident=incident, exc_info=error)
    return render_bug(incident)


async def _no_post(_: Exchange) -> None:
    raise render(MoleculeError("Error parsing ':method' metadata"))


async def _only_message(exchange: Exchange) -> bytes:
    """The one request of a unary call.

    Raises:
        CallFailure: there is none that can be read.
    """
    try:
        message = await exchange.first()
    except MoleculeError as error:
        raise render(error) from error
    if message is None:
        raise render(MoleculeError("the request has no message"))
    return message
