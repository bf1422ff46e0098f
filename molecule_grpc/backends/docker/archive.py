"""Tar streams as the engine takes and gives them, without holding a file in memory."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import AsyncIterator, Mapping
from typing import Final

BLOCK: Final = 512
_FILE_MODE: Final = 0o644


def small_archive(files: Mapping[str, bytes], mode: int = _FILE_MODE) -> bytes:
    """An archive of files that fit into memory, by relative path."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, content in files.items():
            archive.addfile(member(path, len(content), mode), io.BytesIO(content))
    return target.getvalue()


def member(path: str, size: int, mode: int = _FILE_MODE) -> tarfile.TarInfo:
    """A file's entry, owned by root and dated now, or else it would be from 1970."""
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode, entry.mtime = size, mode, int(time.time())
    return entry


async def archive_of(path: str, content: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """A tar archive of one file, streamed while the file's bytes come.

    Raises:
        ValueError: there are more or fewer bytes than `size`.
    """
    yield member(path, size).tobuf(tarfile.PAX_FORMAT)
    sent = 0
    async for chunk in content:
        sent += len(chunk)
        if sent > size:
            break
        yield chunk
    if sent != size:
        raise ValueError(f"{size} bytes were announced, and others came")
    yield b"\0" * (-size % BLOCK + 2 * BLOCK)


class TarReader:
    """Reads an archive from chunks: entries in turn, the content of each as a stream."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = b""
        self._left = 0  # Bytes of the present entry, padding included.

    async def next(self) -> tarfile.TarInfo | None:
        """The next entry; None after the last."""
        names: dict[str, str] = {}
        while True:
            await self._skip()
            header = await self._take(BLOCK)
            if len(header) < BLOCK or not header.strip(b"\0"):
                return None
            entry = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
            self._left = entry.size + -entry.size % BLOCK
            if entry.type == tarfile.XHDTYPE:
                names = _pax(await self._content(entry.size))
            elif entry.type == tarfile.GNUTYPE_LONGNAME:
                names["path"] = _text(await self._content(entry.size))
            elif entry.type == tarfile.GNUTYPE_LONGLINK:
                names["linkpath"] = _text(await self._content(entry.size))
            elif entry.type != tarfile.XGLTYPE:
                entry.name = names.get("path", entry.name)
                entry.linkname = names.get("linkpath", entry.linkname)
                if "size" in names:
                    entry.size = int(names["size"])
                    self._left = entry.size + -entry.size % BLOCK
                return entry

    async def content(self, entry: tarfile.TarInfo) -> AsyncIterator[bytes]:
        """The bytes of the entry that `next` returned last."""
        size = entry.size
        while size:
            if not self._buffer and not await self._fill():
                raise EOFError("the archive ends in a file")
            chunk, self._buffer = self._buffer[:size], self._buffer[size:]
            size -= len(chunk)
            self._left -= len(chunk)
            yield chunk

    async def _content(self, size: int) -> bytes:
        entry = tarfile.TarInfo()
        entry.size = size
        return b"".join([chunk async for chunk in self.content(entry)])

    async def _skip(self) -> None:
        while self._left:
            if not self._buffer and not await self._fill():
                return
            skipped = min(self._left, len(self._buffer))
            self._buffer, self._left = self._buffer[skipped:], self._left - skipped

    async def _take(self, size: int) -> bytes:
        while len(self._buffer) < size and await self._fill():
            pass
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    async def _fill(self) -> bool:
        chunk = await anext(self._chunks, b"")
        self._buffer += chunk
        return bool(chunk)


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("utf-8", "surrogateescape")


def _pax(data: bytes) -> dict[str, str]:
    """Records of an extended header: `LENGTH KEY=VALUE` and a line's end, each."""
    records: dict[str, str] = {}
    while data:
        length, _, _ = data.partition(b" ")
        record, data = data[: int(length)], data[int(length) :]
        key, _, value = record.partition(b" ")[2].rstrip(b"\n").partition(b"=")
        records[key.decode()] = value.decode("utf-8", "surrogateescape")
    return records
