"""A client's messages as they arrive, and the files that they spell."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple, TypeAlias, TypeVar

from molecule_grpc.kernel.errors import Aborted
from molecule_grpc.server.streams import StreamGuard

M = TypeVar("M")

IDLE_SECONDS = 60.0


class FileHead(NamedTuple):
    """A file begins; its bytes follow.

    Args:
        name: from the client, not cleaned.
        mime_type: from the client, not cleaned; empty for none.
        size: in bytes; None when the client does not announce it.
        sha256: 64 lower-case hexadecimal digits; empty when the client does not announce it.
    """

    name: str
    mime_type: str
    size: int | None = None
    sha256: str = ""


# A file begins, or the file that began last goes on.
FileEvent: TypeAlias = FileHead | bytes


async def received(messages: AsyncIterator[M], guard: StreamGuard) -> AsyncIterator[M]:
    """The client's messages, until it has sent the last one.

    Raises:
        Unauthenticated: the token was revoked.
        Aborted: UPLOAD_STALLED: the client sent nothing for 60 s.
    """
    while True:
        try:
            message = await guard.receive(messages, IDLE_SECONDS)
        except TimeoutError:
            raise stalled() from None
        if message is None:
            return
        yield message


def stalled() -> Aborted:
    """The client stopped sending, or sends too slowly."""
    return Aborted("the upload stalled", reason="UPLOAD_STALLED")
