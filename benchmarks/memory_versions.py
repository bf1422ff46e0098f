"""Truth over time: sections of a documentation that changed from one release to the next.

    python -m benchmarks.memory_versions [--embedder local|none]

Django 4.2.16 is committed, then each section that 5.2.7 edited supersedes its old text. Counted:
superseded texts that today's search still shows (none may be), and old texts that `as_of` a moment
before finds again (all must be). Then hints: to 600 old sections, 150 of which were edited, new
texts are committed as if nobody knew of the old ones; how often the answer's `similar` names the
old text, and how often another section. Half of the pairs is dev, for choosing thresholds.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import re
from collections import Counter
from typing import NamedTuple

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from moleculeai.memory.v1 import memory_pb2
from moleculeai.memory.v1 import memory_service_pb2 as pb

from benchmarks.harness import durable_postgres, make_agents
from benchmarks.memory_corpus import CHARACTERS, is_held_out
from benchmarks.memory_sections import rst_sections
from benchmarks.memory_server import Memory, available, memory_worker
from benchmarks.memory_sources import SOURCES, Source, fetch, files_of

_OLD = Source(
    "django",
    "Django==4.2.16",
    "Django-4.2.16.tar.gz",
    "6f1616c2786c408ce86ab7e10f792b8f15742f7b7b7460243929cb371e7f1dad",
    SOURCES[0].folder,
)
_SHORTEST = 120
_PAIRS, _STORED = 150, 600


class Pair(NamedTuple):
    """A section before and after."""

    old: str
    new: str


def sections(source: Source) -> dict[tuple[str, str], str]:
    """Bodies by file and heading, where the heading stands once in its file."""
    wanted, found = re.compile(source.folder), {}
    for name, data in files_of(fetch(source)):
        if not wanted.search(name):
            continue
        file = name.partition("/")[2]
        parts = list(rst_sections(data.decode("utf-8", "replace")))
        counts = Counter(heading for heading, _ in parts)
        for heading, body in parts:
            if counts[heading] == 1 and len(body) >= _SHORTEST:
                found[file, heading] = body[:CHARACTERS].rstrip()
    return found


def edited() -> tuple[list[Pair], list[str]]:
    """Sections that both releases have with other texts, and texts that stayed; each once."""
    old, new = sections(_OLD), sections(SOURCES[0])
    both = sorted(old.keys() & new.keys(), key=lambda key: _lot(str(key)))
    pairs = [Pair(old[key], new[key]) for key in both if old[key] != new[key]]
    same = list(dict.fromkeys(old[key] for key in both if old[key] == new[key]))
    pairs = list({pair.old: pair for pair in pairs}.values())
    return list({pair.new: pair for pair in pairs}.values()), same


def _lot(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


async def truth(memory: Memory, pairs: list[Pair]) -> None:
    """Supersede all, then ask for today and for before."""
    namespace = f"team:{memory.agent.id}"
    ids = await memory.commit_all([pair.old for pair in pairs], keep_duplicate=True)
    await asyncio.sleep(0.05)
    before = Timestamp()
    before.GetCurrentTime()
    await asyncio.sleep(0.05)
    for id_, pair in zip(ids, pairs, strict=True):
        draft = memory_pb2.MemoryDraft(content=pair.new)
        await memory.stub.SupersedeMemory(
            pb.SupersedeMemoryRequest(
                workspace_id=str(memory.agent.id), memory_id=str(id_), memory=draft
            ),
            metadata=memory.agent.metadata,
            timeout=60,
        )
    gone = {str(id_) for id_ in ids}
    now = await memory.search_all([pair.old[:300] for pair in pairs], mode="lexical", limit=20)
    shown = [each.id for answer in now for each in answer.memories if each.id in gone]
    then = await memory.search_all(
        [pair.old[:300] for pair in pairs], mode="lexical", limit=20, as_of=before
    )
    found = 0
    for id_, answer in zip(ids, then, strict=True):
        hits = {hit.id for hit in answer.memories}
        hits |= {each for hit in answer.memories for each in hit.similar_ids}
        found += str(id_) in hits
    print(
        f"{len(pairs)} superseded in {namespace.partition(':')[0]}: {len(shown)} still shown,"
        f" {found / len(pairs):.1%} found as of before"
    )


async def hints(memory: Memory, pairs: list[Pair], same: list[str], *, embed: bool) -> None:
    """Commit new texts beside old ones; print what `similar` says, by half."""
    stored = [pair.old for pair in pairs[:_PAIRS]] + same[: _STORED - _PAIRS]
    ids = await memory.commit_all(stored, keep_duplicate=True)
    if embed:
        await memory.embedded()
    halves: dict[bool, Counter[str]] = {False: Counter(), True: Counter()}
    for id_, pair in zip(ids, pairs[:_PAIRS], strict=False):
        count = halves[is_held_out(pair.old)]
        draft = memory_pb2.MemoryDraft(content=pair.new)
        done = await memory.stub.CommitMemory(
            pb.CommitMemoryRequest(workspace_id=str(memory.agent.id), memory=draft),
            metadata=memory.agent.metadata,
            timeout=60,
        )
        named = {each.id for each in done.similar}
        count["pairs"] += 1
        count["found"] += str(id_) in named
        count["others"] += bool(named - {str(id_)})
        await memory.stub.ForgetMemory(  # So that new texts are not taken for the old ones.
            pb.ForgetMemoryRequest(workspace_id=str(memory.agent.id), memory_id=done.id),
            metadata=memory.agent.metadata,
            timeout=60,
        )
    for held_out, count in halves.items():
        half = "held-out" if held_out else "dev"
        print(
            f"hints, {half} half, {count['pairs']} pairs:"
            f" the old text named {count['found'] / count['pairs']:.1%},"
            f" another {count['others'] / count['pairs']:.1%}"
        )


async def measure(dsn: str, embedder: str) -> None:
    """Both parts, each in a namespace of its own."""
    pairs, same = edited()
    print(f"{len(pairs)} sections were edited, {len(same)} stayed")
    one, two = await make_agents(dsn, 2)
    async with (
        memory_worker(dsn, embedder) as worker,
        grpc.aio.insecure_channel(worker.target) as channel,
    ):
        await truth(Memory(channel, one), pairs)
        await hints(Memory(channel, two), pairs, same, embed=embedder != "none")


def main() -> None:
    """Measure once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embedder", default="local")
    arguments = parser.parse_args()
    embedder = arguments.embedder
    if embedder != "none" and not available(embedder):
        print(f"the model of {embedder} is not installed: words only")
        embedder = "none"
    with durable_postgres() as dsn:
        asyncio.run(measure(dsn, embedder))


if __name__ == "__main__":
    main()
