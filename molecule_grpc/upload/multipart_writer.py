"""Writes the multipart/form-data bodies that agents are called with, while files arrive."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

from molecule_grpc.upload.intake import FileEvent, FileHead
from molecule_grpc.upload.multipart_reader import FIELD
from molecule_grpc.upload.names import OCTET_STREAM, clean_media_type, clean_name
from molecule_grpc.upload.rules import UploadLimits, too_large, too_many_files


class MultipartWriter:
    """Writes one body, within the limits of staged files."""

    def __init__(self, limits: UploadLimits) -> None:
        self._limits = limits
        self._boundary = uuid.uuid4().hex
        self._name = ""
        self._files = 0
        self._size = 0

    @property
    def content_type(self) -> str:
        """The content type of the body, with its boundary."""
        return f"multipart/form-data; boundary={self._boundary}"

    async def encode(self, events: AsyncIterator[FileEvent]) -> AsyncIterator[bytes]:
        """The body of these files, in pieces.

        Raises:
            Invalid: more files than `limits.files`, or one above `limits.per_file` bytes.
        """
        async for event in events:
            yield self._open(event) if isinstance(event, FileHead) else self._counted(event)
        yield f"\r\n--{self._boundary}--\r\n".encode()

    def _open(self, head: FileHead) -> bytes:
        self._files += 1
        if self._files > self._limits.files:
            raise too_many_files(self._limits)
        self._name = clean_name(head.name)
        self._size = 0
        media_type = clean_media_type(head.mime_type) or OCTET_STREAM
        return (
            f"\r\n--{self._boundary}\r\n"
            f'Content-Disposition: form-data; name="{FIELD}"; filename="{self._name}"\r\n'
            f"Content-Type: {media_type}\r\n\r\n"
        ).encode()

    def _counted(self, data: bytes) -> bytes:
        self._size += len(data)
        if self._size > self._limits.per_file:
            raise too_large(self._name, self._size, self._limits.per_file)
        return data
