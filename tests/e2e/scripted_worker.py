"""A worker with scripted answers, for tests of the edge in front of it."""

from __future__ import annotations

import asyncio
import functools
import importlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

from molecule_grpc.server.hosts.grpc_aio import OPTIONS
from tools.descriptors import Contract

Metadata = Sequence[tuple[str, str | bytes]]
Context = grpc.aio.ServicerContext[Any, Any]


def _services() -> Iterator[ServiceDescriptor]:
    """Every service of the contract."""
    for name in sorted({rpc.method.containing_service.file.name for rpc in Contract.load().rpcs()}):
        module = importlib.import_module(name.replace("/", ".").replace(".proto", "_pb2"))
        yield from module.DESCRIPTOR.services_by_name.values()


@dataclass(frozen=True)
class Incoming:
    """A call that reached the worker.

    Args:
        request: the first one, of a stream of them.
        rest: what came after it, in a call that is answered at its end.
    """

    method: str
    request: Message
    metadata: dict[str, str | bytes]
    rest: list[Message] = field(default_factory=list)


@dataclass(frozen=True)
class Reply:
    """What the worker does with a call.

    Args:
        messages: what it sends; None sends one empty message.
        headers: initial metadata.
        error: code and text to abort with, after the messages.
        trailers: trailing metadata of the error.
        pause: seconds before each message but the first of a stream.
    """

    messages: Sequence[Message] | None = None
    headers: Metadata = ()
    error: tuple[grpc.StatusCode, str] | None = None
    trailers: Metadata = ()
    pause: float = 0.0


@dataclass
class ScriptedWorker:
    """Serves every RPC with the first of `replies`; the last one stays for all later calls."""

    socket: Path
    replies: list[Reply] = field(default_factory=lambda: [Reply()])
    calls: list[Incoming] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._server = grpc.aio.server(options=OPTIONS)
        for service in _services():
            handlers = {method.name: self._handler(method) for method in service.methods}
            generic = grpc.method_handlers_generic_handler(service.full_name, handlers)
            self._server.add_generic_rpc_handlers((generic,))
        self._health = HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._server.add_insecure_port(f"unix:{self.socket}")
        await self.set_serving(True)
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self, grace: float | None = None) -> None:
        """Stop listening; calls in flight have `grace` seconds."""
        await self._server.stop(grace)

    async def set_serving(self, serving: bool) -> None:
        """Set the answer of the worker's health service."""
        status = health_pb2.HealthCheckResponse
        await self._health.set("", status.SERVING if serving else status.NOT_SERVING)

    def script(self, *replies: Reply) -> None:
        """Forget what happened, and answer like this from now on."""
        self.calls.clear()
        self.replies = list(replies) or [Reply()]

    @property
    def call(self) -> Incoming:
        """The only call since `script`."""
        (call,) = self.calls
        return call

    def _handler(self, method: MethodDescriptor) -> grpc.RpcMethodHandler[Any, Any]:
        request = message_factory.GetMessageClass(method.input_type).FromString
        encode = message_factory.GetMessageClass(method.output_type).SerializeToString
        if method.client_streaming and method.server_streaming:
            both = functools.partial(self._conversation, method)
            return grpc.stream_stream_rpc_method_handler(both, request, encode)
        if method.client_streaming:
            upload = functools.partial(self._upload, method)
            return grpc.stream_unary_rpc_method_handler(upload, request, encode)
        if method.server_streaming:
            answers = functools.partial(self._answers, method)
            return grpc.unary_stream_rpc_method_handler(answers, request, encode)
        unary = functools.partial(self._unary, method)
        return grpc.unary_unary_rpc_method_handler(unary, request, encode)

    async def _unary(
        self,
        method: MethodDescriptor,
        request: Message,
        context: Context,
        rest: Sequence[Message] = (),
    ) -> Message:
        async for answer in self._answers(method, request, context, rest):
            return answer
        raise AssertionError("a unary call needs a message or an error")

    async def _upload(
        self, method: MethodDescriptor, requests: AsyncIterator[Message], context: Context
    ) -> Message:
        first, *rest = [request async for request in requests]
        return await self._unary(method, first, context, rest)

    async def _conversation(
        self, method: MethodDescriptor, requests: AsyncIterator[Message], context: Context
    ) -> AsyncIterator[Message]:
        async for answer in self._answers(method, await anext(requests), context):
            yield answer

    async def _answers(
        self,
        method: MethodDescriptor,
        request: Message,
        context: Context,
        rest: Sequence[Message] = (),
    ) -> AsyncIterator[Message]:
        metadata = dict(context.invocation_metadata() or ())
        self.calls.append(Incoming(method.full_name, request, metadata, list(rest)))
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        streams = method.server_streaming
        if reply.headers:
            await context.send_initial_metadata(tuple(reply.headers))
        for number, message in enumerate(_messages(reply, method)):
            if number or not streams:
                await asyncio.sleep(reply.pause)
            yield message
        if reply.error:
            await context.abort(*reply.error, tuple(reply.trailers))


def _messages(reply: Reply, method: MethodDescriptor) -> Sequence[Message]:
    if reply.messages is not None:
        return reply.messages
    return [] if reply.error else [message_factory.GetMessageClass(method.output_type)()]
