"""A relay between client and server that loses bytes on demand."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Self


class Relay:
    """Carries TCP to `port`. `cut` breaks what is open; the switches lose what passes.

    Args:
        lose_requests: bytes to the server vanish.
        lose_answers: bytes to the client vanish.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._carrying: set[asyncio.Task[None]] = set()
        self.lose_requests = False
        self.lose_answers = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Break every connection, and carry everything again."""
        self.lose_requests = self.lose_answers = False
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        try:
            await asyncio.gather(
                self._pump(reader, back, to_server=True), self._pump(there, writer, to_server=False)
            )
        finally:
            self._writers -= {writer, back}
            writer.transport.abort()
            back.transport.abort()
            self._carrying.discard(task)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, to_server: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if self.lose_requests if to_server else self.lose_answers:
                    continue
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
