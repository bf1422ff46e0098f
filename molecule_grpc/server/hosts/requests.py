"""Requests as messages, from the bytes that any host has received."""

from __future__ import annotations

from collections.abc import AsyncIterator

from google.protobuf.message import DecodeError, Message

from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.server.status import render


def parse(kind: type[Message], data: bytes) -> Message:
    """The request of type `kind` that these bytes are.

    Raises:
        CallFailure: INVALID_ARGUMENT: they are not a message of that type.
    """
    try:
        return kind.FromString(data)
    except DecodeError:
        raise render(_malformed()) from None


async def parsed(kind: type[Message], requests: AsyncIterator[bytes]) -> AsyncIterator[Message]:
    """The same for a stream of requests.

    Raises:
        Invalid: INVALID_ARGUMENT: one is not a message of that type.
    """
    async for data in requests:
        try:
            yield kind.FromString(data)
        except DecodeError:
            raise _malformed() from None


def _malformed() -> Invalid:
    return Invalid("the request is not a message of the expected type")
