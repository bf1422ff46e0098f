"""What a request brings, as it arrives: files and their bytes, in frames of gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple, TypeAlias, TypeVar

from google.protobuf.message import Message
from moleculeai.upload.v1 import upload_service_pb2 as pb

from molecule_grpc.kernel.errors import Aborted, Invalid

M = TypeVar("M", bound=Message)

IDLE_SECONDS = 60.0


class FileHead(NamedTuple):
    """A file begins; its bytes follow.

    Args:
        name: as the client says it.
        mime_type: as the client says it; empty for none.
        size: in bytes, if the client says it.
        sha256: in hexadecimal digits, if the client says it.
    """

    name: str
    mime_type: str
    size: int | None = None
    sha256: str = ""


Event: TypeAlias = FileHead | bytes


async def patient(requests: AsyncIterator[M]) -> AsyncIterator[M]:
    """The same messages.

    Raises:
        Aborted: UPLOAD_STALLED: none came for 60 s.
    """
    while True:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                message = await anext(requests, None)
        except TimeoutError:
            raise stalled() from None
        if message is None:
            return
        yield message


def stalled() -> Aborted:
    """The client stopped sending."""
    return Aborted("the upload stalled", reason="UPLOAD_STALLED")


async def read_frames(requests: AsyncIterator[pb.StageUploadsRequest]) -> AsyncIterator[Event]:
    """Events of a typed stream, after its first frame.

    Raises:
        Invalid: a frame stands where it must not.
    """
    opened = False
    async for request in requests:
        match request.WhichOneof("frame"):
            case "file":
                opened = True
                file = request.file
                size = file.size if file.HasField("size") else None
                yield FileHead(file.name, file.mime_type, size, file.sha256.lower())
            case "chunk" if opened:
                yield request.chunk
            case _:
                raise Invalid("a file frame must come before its chunks", field="frame")
