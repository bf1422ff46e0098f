"""JSON bodies in answers: every digit of their integers, over REST and over gRPC."""

from __future__ import annotations

from google.protobuf.message import Message

from molecule_grpc.kernel.json_values import put_value
from molecule_grpc.kernel.numbers import MARKED
from molecule_grpc.kernel.slices import Slices
from molecule_grpc.server.call import Call


async def put_body(
    message: Message, name: str, text: str | None, call: Call, slices: Slices
) -> None:
    """Put JSON text into a field of type google.protobuf.Value; None leaves the field out.

    An integer from 2**53 on is a mark over REST, of which the edge makes the number; over gRPC,
    where the value rounds it, the text itself goes into the field `<name>_json` beside.
    """
    if text is None:
        return
    long = await put_value(getattr(message, name), text, slices, mark=call.rest)
    if long and call.rest:
        call.headers[MARKED] = "1"
    elif long:
        setattr(message, f"{name}_json", text)


def clear_body(message: Message, name: str) -> None:
    """Take a body out again."""
    message.ClearField(name)
    message.ClearField(f"{name}_json")
