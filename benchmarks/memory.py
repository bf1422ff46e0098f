"""Retrieval quality of memories, over gRPC, on documentation that its authors judged.

    python -m benchmarks.memory [--form small|full] [--embedder local|none|…] [--strict] [--quick]
                                                                            (make bench-memory)

Every section of `memory_corpus` is committed by one agent; its headings that are questions are
asked, and identifiers that stand in one section only. `words`, `meaning` and `ours` are the modes
lexical, semantic and hybrid of the server. `rank fusion` is reciprocal rank fusion with k = 60 of
the server's words and meaning, what most systems do. Both kinds of queries are split into a dev and
a held-out half by the hash of their text: the weight of the words is chosen on dev and judged on
the rest. The sweep fuses what the server's explanations say of its first 100 hits.

Without the package of the embedder, or with `none`, only words are measured. Memories are ordered
the same way in every run, so the figures are exact; times are not looked at here. `--quick` asks
the held-out half alone, without the sweep: two minutes of CPU, most of it the model's.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import grpc
from moleculeai.memory.v1 import memory_service_pb2 as pb
from rich.console import Console
from rich.table import Table

from benchmarks.harness import durable_postgres, make_agents
from benchmarks.memory_corpus import FINGERPRINTS, Corpus, Question, corpus
from benchmarks.memory_measures import (
    Quality,
    fused_by_rank,
    fused_by_score,
    gain,
    place,
    quality,
)
from benchmarks.memory_server import Memory, available, memory_worker

_WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5)
_DEEP = 50
_KINDS = ("questions", "identifiers")
# What the held-out half of the small form must reach with the model `local`.
_LEAST_MRR, _LEAST_RECALL, _LEAST_IDENTIFIERS = 0.72, 0.84, 0.97
# What its words alone must reach.
_LEAST_WORDS = 0.48


class Legs(NamedTuple):
    """What the server answered to one query, by the numbers of the memories."""

    words: list[int]
    meaning: list[int]
    ours: list[int]
    cosines: dict[int, float]
    shares: dict[int, float]

    def ranking(self, name: str) -> list[int]:
        """Numbers of memories, best first, by a field of `Legs` or by `rank fusion`."""
        if name == "rank fusion":
            return fused_by_rank(self.words, self.meaning)
        found: list[int] = getattr(self, name)
        return found


async def ask(
    memory: Memory, queries: Sequence[Question], numbers: dict[UUID, int], *, semantic: bool
) -> list[Legs]:
    """All modes for all queries; without an embedder the server's own ranking is that by words."""
    texts = [query.text for query in queries]

    def hits(answer: pb.SearchMemoriesResponse) -> list[int]:
        found: list[int] = []
        for each in answer.memories:  # `similar_ids` are hits as well, grouped under this hit.
            found += [numbers[UUID(each.id)], *(numbers[UUID(n)] for n in each.similar_ids)]
        return found

    ours = await memory.search_all(texts, limit=100, explain=True)
    words = meaning = [pb.SearchMemoriesResponse() for _ in texts]
    if semantic:
        words = await memory.search_all(texts, mode="lexical", limit=_DEEP)
        meaning = await memory.search_all(texts, mode="semantic", limit=_DEEP)
    legs = []
    for by_word, by_meaning, fused in zip(words, meaning, ours, strict=True):
        cosines, shares = {}, {}
        for each in fused.memories:
            number = numbers[UUID(each.id)]
            cosines[number] = each.explanation.semantic
            shares[number] = each.explanation.lexical
        found = hits(by_meaning) if by_meaning.mode_used == "semantic" else []
        legs.append(Legs(hits(by_word), found, hits(fused), cosines, shares))
    return legs


def places(legs: Sequence[Legs], queries: Sequence[Question], name: str) -> list[int | None]:
    """Where a ranking has the answers."""
    return [
        place(leg.ranking(name), query.answer) for leg, query in zip(legs, queries, strict=True)
    ]


def swept(legs: Sequence[Legs], queries: Sequence[Question], weight: float) -> Quality:
    """The quality with another weight of the words."""
    return quality(
        [
            place(fused_by_score(leg.cosines, leg.shares, weight), query.answer)
            for leg, query in zip(legs, queries, strict=True)
        ]
    )


async def measure(
    built: Corpus, dsn: str, embedder: str, halves: Sequence[bool]
) -> dict[tuple[str, bool], list[Legs]]:
    """The server's answers, by kind of query and half."""
    [agent] = await make_agents(dsn, 1)
    async with (
        memory_worker(dsn, embedder) as worker,
        grpc.aio.insecure_channel(worker.target) as channel,
    ):
        memory = Memory(channel, agent)
        ids = await memory.commit_all(built.memories, keep_duplicate=True)
        if embedder != "none":
            print(f"embedded within {await memory.embedded():.0f} s", flush=True)
        numbers = {each: number for number, each in enumerate(ids)}
        semantic = embedder != "none"
        return {
            (kind, half): await ask(
                memory, built.half(kind, held_out=half), numbers, semantic=semantic
            )
            for kind in _KINDS
            for half in halves
        }


def report(built: Corpus, found: dict[tuple[str, bool], list[Legs]], *, semantic: bool) -> bool:
    """Print the tables; whether all floors are met."""
    console, met = Console(width=110), True
    names = ("words", "meaning", "rank fusion", "ours") if semantic else ("ours",)
    for kind in _KINDS:
        queries = built.half(kind, held_out=True)
        title = f"{kind}, held-out half ({len(queries)})"
        table = Table("", "R@1", "R@5", "MRR@10", "nDCG@10", "MRR over meaning, 95 %", title=title)
        by_name = {name: places(found[kind, True], queries, name) for name in names}
        for name, at in by_name.items():
            over = str(gain(at, by_name["meaning"])) if semantic and name != "meaning" else ""
            table.add_row(name, *(f"{value:.3f}" for value in quality(at)), over)
        console.print(table)
        reached = quality(by_name["ours"])
        if not semantic:
            met &= reached.mrr >= (_LEAST_IDENTIFIERS if kind == "identifiers" else _LEAST_WORDS)
            continue
        best = max(quality(by_name[leg]).mrr for leg in ("words", "meaning"))
        met &= reached.mrr >= best
        if kind == "identifiers":
            met &= reached.mrr >= _LEAST_IDENTIFIERS
        else:
            met &= reached.mrr >= _LEAST_MRR and reached.recall_5 >= _LEAST_RECALL
            met &= gain(by_name["ours"], by_name["meaning"]).better
    if semantic and ("questions", False) in found:
        console.print(_sweep(built, found))
    return met


def _sweep(built: Corpus, found: dict[tuple[str, bool], list[Legs]]) -> Table:
    table = Table("weight", "dev MRR", "dev R@5", "held-out MRR", "R@5", title="questions: sweep")
    rows = {}
    for weight in _WEIGHTS:
        halves = [
            swept(found["questions", half], built.half("questions", held_out=half), weight)
            for half in (False, True)
        ]
        rows[weight] = halves
    best = max(_WEIGHTS, key=lambda weight: rows[weight][0].mrr)
    for weight, (dev, held) in rows.items():
        mark = " best on dev" if weight == best else ""
        cells = (dev.mrr, dev.recall_5, held.mrr, held.recall_5)
        table.add_row(f"{weight}{mark}", *(f"{value:.3f}" for value in cells))
    return table


def main() -> None:
    """Measure; with `--strict`, exit with status 1 if a floor is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--form", choices=sorted(FINGERPRINTS), default="small")
    parser.add_argument("--embedder", default="local")
    parser.add_argument("--strict", action="store_true", help="fail if a floor is missed")
    parser.add_argument("--quick", action="store_true", help="ask the held-out half alone")
    arguments = parser.parse_args()
    embedder = arguments.embedder
    if embedder != "none" and not available(embedder):
        print(f"the model of {embedder} is not installed: words only")
        embedder = "none"
    built = corpus(arguments.form)
    print(f"{len(built.memories)} memories, {len(built.questions)} questions, {embedder}")
    halves = (True,) if arguments.quick else (False, True)
    with durable_postgres() as dsn:
        found = asyncio.run(measure(built, dsn, embedder, halves))
    met = report(built, found, semantic=embedder != "none")
    if embedder in ("local", "none") and arguments.form == "small":
        print("floors: met" if met else "floors: MISSED")
    if arguments.strict and not met:
        sys.exit(1)


if __name__ == "__main__":
    main()
