"""What the use cases of this slice return."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID


class UploadedFile(NamedTuple):
    """A file, for its sender.

    Args:
        uri: names the file in messages to the agent.
        mime_type: empty when the sender gave none.
        size: in bytes.
    """

    uri: str
    name: str
    mime_type: str
    size: int

    def as_json(self) -> dict[str, object]:
        """The same in the names that REST clients and agents read."""
        return {
            "uri": self.uri,
            "name": self.name,
            "mimeType": self.mime_type,
            "size": self.size,
        }


class UploadProgress(NamedTuple):
    """How far a file is that is written in several requests.

    Args:
        size: in bytes, as announced at its start.
        committed_bytes: how many of them are stored; the next write begins there.
        expires_at: when the upload is given up, or the committed file expires.
        file: the file once it is committed; None before.
    """

    upload_id: UUID
    name: str
    size: int
    committed_bytes: int
    expires_at: datetime
    file: UploadedFile | None = None


class AgentAnswer(NamedTuple):
    """An agent's HTTP response to files that were forwarded to it.

    Args:
        content_type: of the body; empty when the agent gave none.
        body: at most 1 MiB.
    """

    status: int
    content_type: str
    body: bytes


class Acknowledgement(NamedTuple):
    """What an ack met.

    Args:
        already_acked: the file had been acknowledged before.
        raced: the file was swept at the same moment; the ack counts all the same.
    """

    already_acked: bool
    raced: bool


@dataclass(frozen=True, slots=True)
class Download:
    """A file on its way to a client.

    Args:
        content_type: of the whole file.
        headers: of the response, by lower-case name.
        pieces: the bytes, at most 256 KiB each; close them to give up.
        http_status: for REST; None for 200.
    """

    content_type: str
    headers: Mapping[str, str]
    pieces: AsyncGenerator[bytes, None]
    http_status: int | None = None


@dataclass(frozen=True, slots=True)
class Conditions:
    """The headers of a download request that decide what is sent (RFC 9110, 13 and 14).

    Args:
        head: whether the headers of the answer alone are wanted.
        byte_range: the Range header; empty for none.
        if_range: the ETag for which `byte_range` holds; None for any.
        if_match: ETags of which the file must have one; None for any.
        if_none_match: ETags of copies that the client has; None for none.
    """

    head: bool = False
    byte_range: str = ""
    if_range: str | None = None
    if_match: str | None = None
    if_none_match: str | None = None
