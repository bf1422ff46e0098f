"""Any RPC, called with any bytes by anybody, over gRPC or in its REST form; and what came of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import httpx
from google.api import httpbody_pb2
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from molecule_grpc.client.final_status import FinalStatus
from tests.e2e.parties import Party
from tools.descriptors import Rpc

T = TypeVar("T")
R = TypeVar("R")

TIMEOUT_SECONDS = 20.0
VARIABLE = re.compile(r"\{(\w+)(?:=\*\*)?\}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended. `details` is the `google.rpc.Status`, `response` the first message."""

    code: str
    message: str = ""
    details: bytes = b""
    response: bytes = b""

    @property
    def reason(self) -> str:
        """The name from ErrorReason; empty when there is none."""
        info = error_details_pb2.ErrorInfo()
        for detail in status_pb2.Status.FromString(self.details).details:
            detail.Unpack(info)
        reason: str = info.reason
        return reason


async def call(party: Party, rpc: Rpc, *frames: bytes) -> Outcome:
    """Call an RPC with these bytes as its request, or as its stream of them. Reads one answer."""
    path = f"/{rpc.service}/{rpc.name}"
    # As in grpc.aio's stubs, a channel does not know of which messages a path speaks.
    channel: Any = party.wire.channel
    options = {"metadata": tuple(party.headers.items()), "timeout": TIMEOUT_SECONDS}
    response: bytes
    try:
        if rpc.method.client_streaming and not rpc.method.server_streaming:
            response = await answer_of(channel.stream_unary(path)(iter(frames), **options))
            return Outcome("OK", response=response)
        if rpc.method.client_streaming:
            return await _first(channel.stream_stream(path)(_sent(frames), **options))
        if rpc.method.server_streaming:
            return await _first(channel.unary_stream(path)(frames[0], **options))
        response = await channel.unary_unary(path)(frames[0], **options)
    except grpc.aio.AioRpcError as error:
        return _refused(error)
    return Outcome("OK", response=response)


async def answer_of(sending: grpc.aio.StreamUnaryCall[T, R]) -> R:
    """The answer of a call that sends a stream.

    Raises:
        grpc.aio.AioRpcError: with the server's status, also if that came while a request was sent.
    """
    status = FinalStatus(sending)
    try:
        return await sending
    except grpc.aio.AioRpcError as error:
        raise await status.of(error) from None


async def call_rest(party: Party, rpc: Rpc, request: Message) -> httpx.Response:
    """Call an RPC in its first REST form. The answer of a stream is not read."""
    binding = rpc.bindings[0]
    fields: dict[str, Any] = json_format.MessageToDict(request, preserving_proto_field_name=True)
    path = path_of(rpc, fields)
    options: dict[str, Any] = {"headers": dict(party.headers)}
    if binding.body == "*":
        options["json"] = fields
    elif binding.body:
        body = getattr(request, binding.body)
        printed = fields.pop(binding.body, {})
        if isinstance(body, httpbody_pb2.HttpBody):
            options["content"] = body.data
            options["headers"]["content-type"] = body.content_type
        else:
            options["json"] = printed
        options["params"] = fields
    else:
        options["params"] = fields
    if rpc.face.sse:
        options["headers"]["accept"] = "text/event-stream"
    async with party.wire.http.stream(binding.verb, path, **options) as answer:
        if answer.status_code != httpx.codes.OK or not rpc.face.sse:
            await answer.aread()
        return answer


def path_of(rpc: Rpc, fields: dict[str, Any]) -> str:
    """The path of an RPC's first REST form. Removes the fields that the path binds."""
    return VARIABLE.sub(lambda found: str(fields.pop(found[1])), rpc.bindings[0].path)


async def _sent(frames: tuple[bytes, ...]) -> AsyncIterator[bytes]:
    """Frames, and then the silence of a client that listens."""
    for frame in frames:
        yield frame
    await asyncio.sleep(TIMEOUT_SECONDS)


async def _first(opened: Any) -> Outcome:
    status = FinalStatus(opened)
    try:
        response = await opened.read()
    except grpc.aio.AioRpcError as error:
        raise await status.of(error) from None
    if response is grpc.aio.EOF:
        code = await opened.code()
        return Outcome(code.name)
    opened.cancel()
    return Outcome("OK", response=response)


def _refused(error: grpc.aio.AioRpcError) -> Outcome:
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    return Outcome(error.code().name, error.details() or "", bytes(details))
