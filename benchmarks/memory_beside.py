"""What reading texts costs the others: the inbox beside it, and the embedder's memory.

    python -m benchmarks.memory_beside [--texts 10000] [--seconds 10] [--runs 3]

Commits texts of about 256 tokens to a worker without an embedder, measures the inbox (`inbox`, 100
streams, 500 messages a second), then starts an embedder with the model `local`, which reads the
texts, and measures the inbox again meanwhile, in as many runs. When all are read, or with --texts
ended early by --minutes, prints the most memory that the embedder had. Targets: p99 beside at most
1.5 times idle; at most 400 MB after 10,000 texts.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import time

import grpc
import psutil
import uvloop

from benchmarks import inbox
from benchmarks.harness import durable_postgres, make_agents
from benchmarks.memory_corpus import corpus
from benchmarks.memory_server import Memory, memory_worker

# A token of this corpus has about four letters.
_LETTERS = 1024
_STREAMS = 100
_MESSAGES = 500.0
_LOOK_SECONDS = 1.0


def texts_of(count: int) -> list[str]:
    """Different texts of about 256 tokens, of sections of the corpus."""
    sections = itertools.cycle(corpus("small").memories)
    texts = []
    for number in range(count):
        text = f"{number}."
        while len(text) < _LETTERS:
            text = f"{text} {next(sections)}"
        texts.append(text[:_LETTERS])
    return texts


async def inbox_p99(dsn: str, seconds: float, runs: int) -> list[float]:
    """The 99th percentile of each run, in milliseconds."""
    done = [
        await inbox.run(dsn, _STREAMS, rate=_MESSAGES, seconds=seconds, two=False)
        for _ in range(runs)
    ]
    return [one.p99 for one in done]


class Watched:
    """The embedder process of this program, and the most memory that it had."""

    def __init__(self) -> None:
        children = psutil.Process().children(recursive=True)
        [self._process] = [
            each for each in children if any("embedder" in word for word in each.cmdline())
        ]
        self.most = 0

    async def run(self) -> None:
        """Look once a second until cancelled."""
        while True:
            self.most = max(self.most, self._process.memory_info().rss)
            await asyncio.sleep(_LOOK_SECONDS)


async def measure(dsn: str, count: int, *, seconds: float, runs: int, minutes: float) -> None:
    """Commit, measure idle, read and measure beside."""
    [agent] = await make_agents(dsn, 1)
    async with (
        memory_worker(dsn, "none") as worker,
        grpc.aio.insecure_channel(worker.target) as channel,
    ):
        await Memory(channel, agent).commit_all(texts_of(count))
    idle = await inbox_p99(dsn, seconds, runs)
    print(
        f"idle: p99 {statistics.median(idle):.2f} ms ({min(idle):.2f}-{max(idle):.2f})", flush=True
    )
    async with (
        memory_worker(dsn, "local") as worker,
        grpc.aio.insecure_channel(worker.target) as channel,
    ):
        memory, watched = Memory(channel, agent), Watched()
        watching = asyncio.create_task(watched.run())
        await _reading(memory, count)
        beside = await inbox_p99(dsn, seconds, runs)
        left = (await memory.search("anything", limit=1)).embed_pending
        assert left, "all texts were read before the inbox was measured: give more"
        ratio = statistics.median(beside) / statistics.median(idle)
        print(
            f"beside: p99 {statistics.median(beside):.2f} ms ({min(beside):.2f}-{max(beside):.2f}),"
            f" {ratio:.2f} times idle (target 1.5)",
            flush=True,
        )
        begun = time.monotonic()
        while left and time.monotonic() - begun < minutes * 60:
            await asyncio.sleep(_LOOK_SECONDS)
            left = (await memory.search("anything", limit=1)).embed_pending
        watching.cancel()
        print(f"embedder: at most {watched.most / 1e6:.0f} MB, {count - left} texts read (400 MB)")


async def _reading(memory: Memory, count: int) -> None:
    """Wait until the embedder reads: texts stored without one are put into the line first."""
    while True:
        left = (await memory.search("anything", limit=1)).embed_pending
        if 0 < left < count:
            return
        await asyncio.sleep(_LOOK_SECONDS)


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=60)
    arguments = parser.parse_args()
    with durable_postgres() as dsn:
        uvloop.run(
            measure(
                dsn,
                arguments.texts,
                seconds=arguments.seconds,
                runs=arguments.runs,
                minutes=arguments.minutes,
            )
        )


if __name__ == "__main__":
    main()
