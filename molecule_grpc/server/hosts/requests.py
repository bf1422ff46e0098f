"""Requests as messages, from the bytes that any host has received."""

from __future__ import annotations

from collections.abc import AsyncIterator

from google.protobuf.message import DecodeError, Message

from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.server.methods import Method
from molecule_grpc.server.status import render


def parse(method: Method, data: bytes) -> Message:
    """The request that these bytes are.

    Raises:
        CallFailure: INVALID_ARGUMENT: they are not a message of the method's type.
    """
    try:
        return method.request_type.FromString(data)
    except DecodeError:
        raise render(_malformed()) from None


async def parsed(method: Method, requests: AsyncIterator[bytes]) -> AsyncIterator[Message]:
    """The same for a stream of requests.

    Raises:
        Invalid: INVALID_ARGUMENT: one is not a message of the method's type.
    """
    async for data in requests:
        try:
            yield method.request_type.FromString(data)
        except DecodeError:
            raise _malformed() from None


def _malformed() -> Invalid:
    return Invalid("the request is not a message of the expected type")
