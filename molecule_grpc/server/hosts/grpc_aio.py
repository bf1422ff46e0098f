"""Carries calls between grpc.aio and the pipeline: decodes, makes a `Call`, aborts on failure."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import grpc

from molecule_grpc.kernel.sizes import MAX_ANSWER_BYTES, MAX_HEADER_BYTES, MAX_REQUEST_BYTES
from molecule_grpc.server.call import Call
from molecule_grpc.server.hosts.requests import parse, parsed
from molecule_grpc.server.hosts.stream_writer import StreamWriter
from molecule_grpc.server.methods import Method
from molecule_grpc.server.pipeline import Pipeline
from molecule_grpc.server.status import CallFailure
from molecule_grpc.server.unread import Unread

_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

_MAX_DRAINED_BYTES = 64 * 1024 * 1024
_MAX_DRAIN_SECONDS = 10.0

OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_send_message_length", MAX_ANSWER_BYTES),
    ("grpc.so_reuseport", 0),
    # A call with more headers fails alone. The edge lets 128 KiB pass, and adds some of its own. Up
    # to the first limit no call is refused, above the second all are.
    ("grpc.max_metadata_size", MAX_HEADER_BYTES + 4 * 1024),
    ("grpc.absolute_max_metadata_size", MAX_HEADER_BYTES + 4 * 1024),
    # A fleet that reconnects after a deploy opens thousands of streams at once; with the defaults
    # two in five are refused.
    ("grpc.server.max_pending_requests", 20_000),
    ("grpc.server.max_pending_requests_hard_limit", 40_000),
    # The edge pings silent connections every 30 s; the default answer is to hang up on it.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
]


def add_methods(
    server: grpc.aio.Server,
    methods: Iterable[Method],
    pipeline: Pipeline,
    unread: Unread,
    *,
    write_seconds: float = 60.0,
) -> None:
    """Serve these methods through the pipeline.

    Args:
        unread: counts what clients of streams have not taken.
        write_seconds: a stream ends when its client takes no message for this many seconds.
    """
    by_service: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {}
    for method in methods:
        handler = _handler(method, pipeline, unread, write_seconds)
        by_service.setdefault(method.service, {})[method.name] = handler
    for service, handlers in by_service.items():
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))


def _handler(
    method: Method, pipeline: Pipeline, unread: Unread, write_seconds: float
) -> grpc.RpcMethodHandler[Any, Any]:
    # Messages travel as bytes to this point: a request that does not parse is the client's error,
    # which the library would report as ours.
    if method.client_streaming and method.server_streaming:
        return grpc.stream_stream_rpc_method_handler(
            _stream_stream(method, pipeline, unread, write_seconds)
        )
    if method.client_streaming:
        return grpc.stream_unary_rpc_method_handler(_stream_unary(method, pipeline))
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(
            _unary_stream(method, pipeline, unread, write_seconds)
        )
    return grpc.unary_unary_rpc_method_handler(_unary(method, pipeline))


def _unary(method: Method, pipeline: Pipeline) -> Any:
    async def serve(data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        call = _call(context)
        try:
            request = parse(method.request_type, data)
            response = await pipeline.unary(method, request, call)
        except CallFailure as failure:
            await _abort(context, call, failure)
            raise AssertionError("abort returned") from failure
        if call.headers:
            await context.send_initial_metadata(tuple(call.headers.items()))
        return response

    return serve


def _stream_unary(method: Method, pipeline: Pipeline) -> Any:
    async def serve(
        requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]
    ) -> bytes:
        call = _call(context)
        try:
            response = await pipeline.collect(method, parsed(method.request_type, requests), call)
        except CallFailure as failure:
            if call.rest:
                await _drain(requests)
            await _abort(context, call, failure)
            raise AssertionError("abort returned") from failure
        if call.headers:
            await context.send_initial_metadata(tuple(call.headers.items()))
        return response

    return serve


async def _drain(requests: AsyncIterator[bytes]) -> None:
    """Read the rest of a client's messages: an HTTP/1.1 client reads the answer after that.

    A client that sends more than 64 MiB, or for longer than 10 s, loses connection and answer.
    """
    left = _MAX_DRAINED_BYTES
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_MAX_DRAIN_SECONDS):
            async for data in requests:
                left -= len(data)
                if left < 0:
                    return


def _unary_stream(method: Method, pipeline: Pipeline, unread: Unread, write_seconds: float) -> Any:
    serve_stream = _stream_stream(method, pipeline, unread, write_seconds)

    async def serve(data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        async def requests() -> AsyncIterator[bytes]:
            yield data

        await serve_stream(requests(), context)

    return serve


def _stream_stream(method: Method, pipeline: Pipeline, unread: Unread, write_seconds: float) -> Any:
    async def serve(
        requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext[Any, Any]
    ) -> None:
        call = _call(context)
        responses = pipeline.stream(method, parsed(method.request_type, requests), call)
        writer = StreamWriter(_writes(context), responses, unread, write_seconds, rpc=method.path)
        opened = False
        try:
            async for response in responses:
                if not opened:
                    await context.send_initial_metadata(tuple(call.headers.items()))
                    opened = True
                await writer.write(response)
        except CallFailure as failure:
            if method.client_streaming:
                await writer.settle()
            await _abort(context, call, failure)
        finally:
            writer.close()

    return serve


def _writes(
    context: grpc.aio.ServicerContext[Any, Any],
) -> Callable[[bytes], Awaitable[None]]:
    async def write(data: bytes) -> None:
        try:
            await context.write(data)
        except grpc.aio.InternalError as error:
            raise asyncio.CancelledError("the client has left") from error

    return write


def _call(context: grpc.aio.ServicerContext[Any, Any]) -> Call:
    metadata: Any = context.invocation_metadata()
    return Call(metadata=dict(metadata or ()), remaining=context.time_remaining)


async def _abort(
    context: grpc.aio.ServicerContext[Any, Any], call: Call, failure: CallFailure
) -> None:
    await context.abort(
        _CODES[int(failure.code)],
        failure.message,
        tuple(failure.trailers(rest=call.rest)),
    )
