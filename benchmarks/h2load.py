"""Load by h2load (Debian: nghttp2-client): one small process per caller, so that no Python client
limits the rate and every caller is its own workspace and connection."""

from __future__ import annotations

import asyncio
import re
import struct
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.message import Message

from benchmarks.harness import Agent

CALLERS = 64
_RATE = re.compile(r"finished in [\d.]+\w+, ([\d.]+) req/s")


@dataclass(frozen=True, slots=True)
class Load:
    """One row of a table: a body for each caller, and the query that counts written rows."""

    name: str
    url: str
    bodies: list[bytes]
    count: str | None = None
    rest: bool = False
    # CPU seconds spent so far by the processes that serve this load.
    cpu: Callable[[], float] = lambda: 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Rate and latencies of one run, over all callers.

    Args:
        rate: requests per second.
        took: milliseconds of each answered request; empty unless the generator is `timed`.
    """

    rate: float
    took: list[float] = field(default_factory=list)


def frame(message: Message) -> bytes:
    """A message as gRPC frames it."""
    data = message.SerializeToString()
    return struct.pack(">?I", False, len(data)) + data


def frames(messages: Sequence[Message]) -> list[bytes]:
    """The framed messages of the callers."""
    return [frame(message) for message in messages[:CALLERS]]


class Generator:
    """Runs one h2load process per caller, all at once.

    Args:
        timed: whether the time of each request is kept.
    """

    def __init__(self, directory: Path, agents: list[Agent], *, timed: bool = False) -> None:
        self._directory = directory
        self._agents = agents
        self._timed = timed

    async def run(self, load: Load, seconds: int) -> Outcome:
        """Let all callers repeat their request. Raises AssertionError on a 4xx or 5xx response."""
        processes = []
        for index, body in enumerate(load.bodies):
            self._body(index).write_bytes(body)
            self._log(index).unlink(missing_ok=True)
            processes.append(
                await asyncio.create_subprocess_exec(
                    *self._command(load, index, seconds),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )
            )
        outputs = await asyncio.gather(*(process.communicate() for process in processes))
        refused = [out for out, _ in outputs if b" 0 4xx, 0 5xx" not in out]
        assert not refused, refused[0].decode()
        rates = [float(found[1]) for out, _ in outputs if (found := _RATE.search(out.decode()))]
        return Outcome(sum(rates), self._took(len(processes)))

    def _body(self, index: int) -> Path:
        return self._directory / f"body-{index}"

    def _log(self, index: int) -> Path:
        return self._directory / f"log-{index}"

    def _took(self, callers: int) -> list[float]:
        """Milliseconds from the third column of h2load's logs; the second is the status."""
        if not self._timed:
            return []
        rows = [
            line.split()
            for index in range(callers)
            for line in self._log(index).read_text().splitlines()
        ]
        return [int(row[2]) / 1000 for row in rows if row[1] == "200"]

    def _command(self, load: Load, index: int, seconds: int) -> list[str]:
        kind = (
            ["--h1", "-H", "content-type: application/json"]
            if load.rest
            else ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        )
        return [
            "h2load",
            "-c1",
            "-m1",
            f"--duration={seconds}",
            "-d",
            str(self._body(index)),
            *([f"--log-file={self._log(index)}"] if self._timed else []),
            *kind,
            "-H",
            f"authorization: Bearer {self._agents[index].token}",
            load.url,
        ]
