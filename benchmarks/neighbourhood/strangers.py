"""Attackers without a token, on plain sockets from an address of their own (127.0.0.66)."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

from benchmarks.neighbourhood.site import Attack, Site

_ADDRESS = "127.0.0.66"
_BODIES = 200
_BODY_BYTES = 120_000_000
_SENT_BYTES = 8 * 1024 * 1024
_PIECE = b"x" * 65536
_SLOW = 2000
_CONNECTIONS = 10_000
# Connections that are being opened at once: more would time the attacker's own event loop.
_OPENING = 200


async def bodies(site: Site) -> None:
    """200 requests that announce 120 MB of JSON; 8 MB are offered of each, then silence."""
    await site.ready()

    async def unfinished(_: int) -> int:
        async with _connected(site) as (reader, writer):
            head = _head(site, "POST", f"/workspaces/{uuid.uuid4()}/delegate")
            head += f"content-type: application/json\r\ncontent-length: {_BODY_BYTES}\r\n\r\n"
            writer.write(head.encode() + b'{"task": "')
            sending = asyncio.create_task(_send(writer))
            try:
                return await _status(reader)
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    await site.flood(unfinished, callers=_BODIES, pause=1.0)


async def headers(site: Site) -> None:
    """8 callers whose Authorization header is another 58 KB each time."""
    await site.ready()

    async def call(_: int) -> int:
        async with _connected(site) as (reader, writer):
            while True:
                token = f"{uuid.uuid4()}{'x' * 58_000}"
                head = _head(site, "GET", f"/workspaces/{uuid.uuid4()}/activity")
                writer.write(f"{head}authorization: Bearer {token}\r\n\r\n".encode())
                await writer.drain()
                site.outcomes[await _status(reader)] += 1

    await site.flood(call, callers=8)


async def slow_headers(site: Site) -> None:
    """2,000 connections that send a header line of 20 bytes every two seconds."""

    async def crawl(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        writer.write(_head(site, "GET", "/workspaces").encode())
        answer = asyncio.create_task(_status(reader))
        try:
            while not (await asyncio.wait({answer}, timeout=2.0))[0]:
                writer.write(b"x-slow: 123456789\r\n")
            return await answer
        finally:
            answer.cancel()

    await _crowd(site, _SLOW, crawl)


async def connections(site: Site) -> None:
    """10,000 connections that send one request and stay open; closed ones are opened again."""

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        writer.write((_head(site, "GET", "/workspaces") + "\r\n").encode())
        site.outcomes[await _status(reader)] += 1
        await reader.readexactly(1)  # never comes: ends with the connection
        return 0

    await _crowd(site, _CONNECTIONS, hold)


async def _crowd(
    site: Site,
    count: int,
    use: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[int]],
) -> None:
    """Use `count` connections at once; the attack begins when all were opened or refused."""
    opening, tried = asyncio.Semaphore(_OPENING), asyncio.Semaphore(0)

    async def one(_: int) -> int:
        try:
            async with opening:
                reader, writer = await _open(site)
        finally:
            tried.release()
        try:
            return await use(reader, writer)
        finally:
            writer.transport.abort()

    flooding = asyncio.create_task(site.flood(one, callers=count, pause=1.0))
    for _ in range(count):
        await tried.acquire()
    await site.ready()
    await flooding


async def spinning(site: Site) -> None:
    """The floor: a process as nice as every attacker that uses all the processor time it gets."""
    await site.ready()
    while True:
        sum(range(10_000))
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def _connected(
    site: Site,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await _open(site)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _open(site: Site) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", site.port, local_addr=(_ADDRESS, 0))


def _head(site: Site, method: str, path: str) -> str:
    return f"{method} {path} HTTP/1.1\r\nhost: {site.target}\r\n"


async def _send(writer: asyncio.StreamWriter) -> None:
    for _ in range(_SENT_BYTES // len(_PIECE)):
        writer.write(_PIECE)
        await writer.drain()
        await asyncio.sleep(0.01)


async def _status(reader: asyncio.StreamReader) -> int:
    """Read one response with its body; its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
    if length:
        await reader.readexactly(int(length))
    return int(head.split(b" ", 2)[1])


FLOOR = Attack("spinning", "floor: a niced spinning process beside", spinning)
ATTACKS = (
    Attack("bodies", "200 unfinished bodies", bodies),
    Attack("headers", "60 KB headers, 8 callers", headers),
    Attack("slow-headers", "2,000 connections with slow headers", slow_headers),
    Attack("connections", "10,000 connections", connections, bound=3.0),
)
