"""From a durable append to the reader: our inbox beside NATS JetStream, 1,000 readers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.clients import run_client
from benchmarks.harness import Agent, free_port
from benchmarks.peers.databases import Postgres
from benchmarks.peers.programs import nats_server
from benchmarks.peers.rounds import Figures, Row
from benchmarks.peers.sides import Side, running

READERS = 1_000
# The client has the same number.
SENDERS = 64
_RATE = 2_000
_IN_FLIGHT = 256
STEADY, FLAT_OUT = f"{_RATE:,} messages/s", "flat out"
# `sync_interval: always`: every write is followed by fsync before it is acknowledged.
_CONFIGURATION = """
listen: "127.0.0.1:{port}"
jetstream {{ store_dir: "{directory}", sync_interval: always }}
"""


@contextlib.asynccontextmanager
async def nats(directory: Path) -> AsyncIterator[Side]:
    """A NATS server whose streams are files. Raises Missing without its program."""
    program, port = nats_server(), free_port()
    file = directory / "nats.conf"
    file.write_text(_CONFIGURATION.format(port=port, directory=directory))
    async with running([str(program), "-c", str(file), "-l", f"{file}.log"], [port]) as pid:
        yield Side("", [pid], f"127.0.0.1:{port}")


@dataclass(frozen=True, slots=True)
class Messages:
    """Makes rows of messages. The first agents send, the others read."""

    agents: list[Agent]
    postgres: Postgres
    seconds: int
    client: Path | None

    def row(self, name: str, side: Side | str, kind: str, base: str = "") -> Row:
        """The row of one server, at a steady rate or flat out; skipped without a server."""
        title = f"{name}, {kind}"
        if isinstance(side, str):
            return Row(title, base=base, skipped=side)
        if self.client is None:
            return Row(title, base=base, skipped="its client is a Go program")
        return Row(title, self._run(side, kind, self.client), base)

    def _run(self, side: Side, kind: str, client: Path) -> Callable[[], Awaitable[Figures]]:
        ours = bool(side.dsn)
        agents = self.agents if ours else self.agents[SENDERS:]
        plan = {
            "work": "messages, ours" if ours else "messages, nats",
            "target": side.grpc,
            "readers": side.readers,
            "agents": [(str(agent.id), agent.token) for agent in agents],
            "seconds": self.seconds,
            "rate": _RATE if kind == STEADY else 0,
            "in_flight": _IN_FLIGHT,
        }

        async def run() -> Figures:
            seen = await run_client(
                [str(client)],
                plan,
                lambda: (side.cpu(), self.postgres.cpu() if ours else 0.0),
            )
            return Figures.of(seen)

        return run
