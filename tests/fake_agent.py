"""An agent that listens at a URL, and behaves as badly as a test wants it to."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tests.waiting import PATIENCE

Writer = asyncio.StreamWriter


@dataclass(frozen=True, slots=True)
class Received:
    """One request that arrived."""

    headers: dict[str, str]
    body: Any
    # Set when the caller has hung up.
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def message_id(self) -> str:
        """The A2A message id."""
        found: str = self.body["params"]["message"]["messageId"]
        return found

    @property
    def text(self) -> str:
        """The text of the message."""
        found: str = self.body["params"]["message"]["parts"][0]["text"]
        return found


Behaviour = Callable[[Received, Writer], Awaitable[None]]


@dataclass(slots=True)
class FakeAgent:
    """Answers each request as `behave` says; `script` says it for the next ones, one each."""

    behave: Behaviour
    received: list[Received] = field(default_factory=list)
    script: list[Behaviour] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    host: str = "127.0.0.1"
    _server: asyncio.Server | None = None
    _came: asyncio.Condition = field(default_factory=asyncio.Condition)
    _serving: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Its URL."""
        return f"http://{self.host}:{self.port}/"

    @property
    def message_ids(self) -> list[str]:
        """Of all that arrived, in order."""
        return [one.message_id for one in self.received]

    async def wait(self, count: int, *, timeout: float = PATIENCE) -> list[Received]:
        """All requests so far, as soon as there are `count` of them."""
        async with asyncio.timeout(timeout), self._came:
            await self._came.wait_for(lambda: len(self.received) >= count)
        return self.received

    async def start(self, port: int = 0) -> None:
        """Listen; at the same port again after a stop."""
        self._server = await asyncio.start_server(self._serve, self.host, port or self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Hang up on everybody."""
        assert self._server is not None
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self.connections += 1
        watching: asyncio.Task[None] | None = None
        try:
            request = await _read(reader)
            watching = asyncio.create_task(_watch(reader, request.gone))
            self.received.append(request)
            async with self._came:
                self._came.notify_all()
            behave = self.script.pop(0) if self.script else self.behave
            with contextlib.suppress(ConnectionError):
                await behave(request, writer)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # It is no HTTP, or the test is over.
        finally:
            self._serving.discard(task)
            writer.close()
            if watching is not None:
                watching.cancel()


@contextlib.asynccontextmanager
async def fake_agent(
    behave: Behaviour | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[FakeAgent]:
    """An agent that listens while inside; it echoes unless told otherwise."""
    agent = FakeAgent(behave or echo, host=host)
    await agent.start()
    try:
        yield agent
    finally:
        await agent.stop()


async def _watch(reader: asyncio.StreamReader, gone: asyncio.Event) -> None:
    with contextlib.suppress(ConnectionError):
        await reader.read()
    gone.set()


async def _read(reader: asyncio.StreamReader) -> Received:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {
        name.lower(): value
        for name, _, value in (line.partition(": ") for line in head[1:] if line)
    }
    body = await reader.readexactly(int(headers["content-length"]))
    return Received(headers, json.loads(body))


def raw(data: bytes) -> Behaviour:
    """Sends these bytes and closes."""

    async def behave(_: Received, writer: Writer) -> None:
        writer.write(data)
        await writer.drain()

    return behave


def answers(status: int, body: Any = None, **headers: str) -> Behaviour:
    """Sends a complete response; `body` is JSON, or bytes as they are."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(data)}", "Content-Type: text/x"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return raw("\r\n".join([*lines, "", ""]).encode() + data)


def result(text: str) -> dict[str, Any]:
    """A JSON-RPC response that says this."""
    return {
        "jsonrpc": "2.0",
        "id": "custom-id-123",
        "result": {"kind": "message", "parts": [{"kind": "text", "text": text}]},
    }


def says(text: str) -> Behaviour:
    """Answers as a well-behaved agent."""
    return answers(200, result(text))


async def echo(request: Received, writer: Writer) -> None:
    """Answers with the text it was sent."""
    await answers(200, result(f"echo: {request.text}"))(request, writer)


async def hangs(_: Received, writer: Writer) -> None:
    """Never answers."""
    await asyncio.sleep(3600)
    writer.close()


async def hangs_up(_: Received, writer: Writer) -> None:
    """Closes the connection instead of answering."""
    writer.close()


async def resets(_: Received, writer: Writer) -> None:
    """Aborts the connection instead of answering."""
    writer.transport.abort()


def waits_for(event: asyncio.Event, then: Behaviour) -> Behaviour:
    """Does nothing before the event."""

    async def behave(request: Received, writer: Writer) -> None:
        await event.wait()
        await then(request, writer)

    return behave


def floods(total: int, *, declared: bool) -> Behaviour:
    """Sends so many bytes, announced or not."""

    async def behave(_: Received, writer: Writer) -> None:
        length = f"Content-Length: {total}\r\n" if declared else "Connection: close\r\n"
        writer.write(f"HTTP/1.1 200 OK\r\n{length}\r\n".encode())
        chunk, sent = b"x" * 1_048_576, 0
        while sent < total:
            writer.write(chunk)
            await writer.drain()
            sent += len(chunk)

    return behave
