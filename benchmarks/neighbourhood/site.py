"""Where a party finds the server, whom it acts as, and how it talks with `neighbours`."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import grpc

from benchmarks.harness import Agent

# Where agents with a URL listen: a private address that only the benchmark's namespace has.
AGENT_ADDRESS = "10.77.0.1"
AGENT_NETWORK = "10.77.0.0/16"
# gRPC's codes as the HTTP statuses that a REST client sees; any other code is a failure (500).
_STATUSES = {
    "INVALID_ARGUMENT": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "FAILED_PRECONDITION": 409,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


@dataclass(slots=True)
class Site:
    """The server's address, and the workspaces of this party's organisation."""

    port: int
    agents: list[Agent]
    # What came back, by HTTP status; 0 counts connections that were closed or refused.
    outcomes: collections.Counter[int] = field(default_factory=collections.Counter)
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def target(self) -> str:
        """The edge as a gRPC client names it."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The edge as an HTTP client names it."""
        return f"http://{self.target}"

    @classmethod
    async def read(cls) -> Site:
        """The site, from a line of standard input."""
        port, agents = json.loads(await line())
        return cls(port, [Agent(UUID(workspace_id), token) for workspace_id, token in agents])

    def written(self) -> bytes:
        """The line that `read` understands."""
        agents = [(str(agent.id), agent.token) for agent in self.agents]
        return json.dumps([self.port, agents]).encode() + b"\n"

    def channel(self) -> grpc.aio.Channel:
        """A channel with a connection of its own."""
        return grpc.aio.insecure_channel(
            self.target,
            options=(
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.max_receive_message_length", 64 * 1024 * 1024),
            ),
        )

    async def ready(self) -> None:
        """Tell that everything stands, and return when the attack shall begin."""
        _be_nice()
        say("ready")
        await line()
        self.begun.set()

    async def flood(
        self, call: Callable[[int], Awaitable[int]], *, callers: int, pause: float = 0.0
    ) -> None:
        """Let `callers` repeat a call for ever, `pause` seconds apart, and count the statuses.

        A refused caller waits 50 ms, so that the attacker's own processor time stays small.
        """

        async def caller(index: int) -> None:
            while True:
                try:
                    status = await call(index)
                except grpc.aio.AioRpcError as error:
                    status = status_of(error)
                except (OSError, aiohttp.ClientError, asyncio.IncompleteReadError):
                    status = 0
                self.outcomes[status] += 1
                await asyncio.sleep(pause if 200 <= status < 300 else max(pause, 0.05))

        async with asyncio.TaskGroup() as group:
            for index in range(callers):
                group.create_task(caller(index))


def status_of(error: grpc.aio.AioRpcError) -> int:
    """An error of gRPC as an HTTP status."""
    return _STATUSES.get(error.code().name, 500)


def _be_nice() -> None:
    os.nice(19)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text("19")


async def line() -> str:
    """The next line of standard input; empty at its end."""
    return await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


def say(value: object) -> None:
    """Print a value as one line of JSON."""
    print(json.dumps(value), flush=True)


@dataclass(frozen=True, slots=True)
class Attack:
    """An attack by its name on the command line and the title of its row in the report.

    Args:
        run: prepares, calls `Site.ready`, then attacks until its process is killed.
        bound: times that the victim's p99 may grow.
    """

    name: str
    title: str
    run: Callable[[Site], Coroutine[Any, Any, None]]
    bound: float = dataclasses.field(default=1.5)
