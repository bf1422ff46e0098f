"""The same work by the product and by its peers, all on this machine, in one interleaved run.

    python -m benchmarks.peers [--seconds 4] [--rounds 3]

Heartbeats: 64 agents, each with a connection of its own, the same bytes to every server, by h2load.
Each server has a copy of one migrated database, checks the token by its SHA-256 and keeps the
answer for 30 s. Go is grpc-go and gin over pgx: one statement a call over 16 connections, or with
the same group commit as ours (all who wait in one statement, one flush at a time). The peers'
statements write the same columns and, unlike ours, no event when a status changes. `a call` and
`on the stream` have another client, written in Go, the same for both.

Messages: 64 agents append with SendMessage to the inboxes that 1,000 StreamInbox read; beside NATS
JetStream, one stream on files with fsync at every write, a consumer for each subject. Neither side
acknowledges items. Client and readers are one Go process. Only ours looks at who may write to whom,
counts an inbox's quota and keeps the message for polling, search and audit.

Ratios are medians over the rounds, to the row that the group names first. CPU is that of the server
with all its processes; Postgres stands beside it. Before the run every server is shown to answer
only after its commit; after it, answers are counted against rows written. Temporal's row is part of
`benchmarks.delegations`. Peers that cannot run here are SKIPPED, with the reason.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

from rich.console import Console

from benchmarks.h2load import CALLERS
from benchmarks.harness import durable_postgres
from benchmarks.peers import sides as start
from benchmarks.peers.databases import Postgres, copies, make_template
from benchmarks.peers.heartbeats import CALLS, GO_CALLS, GO_GIN, GO_GRPC, GRPC, REST, STREAM, Beats
from benchmarks.peers.messages import FLAT_OUT, READERS, SENDERS, STEADY, Messages, nats
from benchmarks.peers.probe import require_durable
from benchmarks.peers.programs import GoPrograms, Missing, build_go
from benchmarks.peers.rounds import Groups, Row, cpu, interleave, rate, table, why_not
from benchmarks.peers.sides import Side
from benchmarks.peers.targets import Target

_GO_ONE, _GO_GROUP = "Go, one statement", "Go, group commit"
_FASTAPI, _NATS = "FastAPI + asyncpg", "NATS JetStream"
_DIRECT, _BEHIND, _INSIDE = "ours, grpc.aio direct", "ours, behind Envoy", "ours, inside Envoy"


def _starters(
    dsns: list[str], directory: Path, programs: GoPrograms | str
) -> dict[str, Callable[[], AbstractAsyncContextManager[Side]]]:
    behind, inside, direct, one, group, python = dsns

    def go(dsn: str, *, grouped: bool) -> AbstractAsyncContextManager[Side]:
        if isinstance(programs, str):
            raise Missing(programs)
        return start.go(dsn, programs, group=grouped)

    return {
        _GO_ONE: lambda: go(one, grouped=False),
        _GO_GROUP: lambda: go(group, grouped=True),
        _FASTAPI: lambda: start.fastapi(python),
        _DIRECT: lambda: start.direct(direct),
        _BEHIND: lambda: start.behind_envoy(behind, directory),
        _INSIDE: lambda: start.inside_envoy(inside, directory),
        _NATS: lambda: nats(directory),
    }


async def _open(
    stack: AsyncExitStack, starters: dict[str, Callable[[], AbstractAsyncContextManager[Side]]]
) -> dict[str, Side | str]:
    """Every server that can run here; the reason for each of the others."""
    opened: dict[str, Side | str] = {}
    for name, starter in starters.items():
        try:
            opened[name] = await stack.enter_async_context(starter())
        except Missing as why:
            opened[name] = str(why)
    return opened


def _rows(sides: dict[str, Side | str], beats: Beats, messages: Messages) -> Groups:
    go, grouped = sides[_GO_ONE], sides[_GO_GROUP]
    ours = {name: sides[name] for name in (_DIRECT, _BEHIND, _INSIDE)}
    return [
        [
            beats.row("Go, grpc-go, one statement", go, GRPC),
            beats.row("Go, grpc-go, group commit", grouped, GRPC, GO_GRPC),
            *(beats.row(name, side, GRPC, GO_GRPC) for name, side in ours.items()),
        ],
        [
            beats.row("Go, gin, one statement", go, REST),
            beats.row("Go, gin, group commit", grouped, REST, GO_GIN),
            beats.row(_FASTAPI, sides[_FASTAPI], REST, GO_GIN),
            *(beats.row(name, ours[name], REST, GO_GIN) for name in (_BEHIND, _INSIDE)),
        ],
        [
            beats.row("Go, grpc-go, one statement", go, CALLS),
            *(beats.row(name, side, STREAM, GO_CALLS) for name, side in ours.items()),
        ],
        *(
            [
                messages.row(_NATS, sides[_NATS], kind),
                *(messages.row(name, side, kind, base) for name, side in ours.items()),
            ]
            for kind, base in ((STEADY, ""), (FLAT_OUT, f"{_NATS}, {FLAT_OUT}"))
        ),
    ]


def _targets(ours: str) -> list[Target]:
    """The targets of the installation that is judged."""
    grpc, rest, stream = (f"{ours}, {kind}" for kind in (GRPC, REST, STREAM))
    group = f"Go, grpc-go, group commit, {GRPC}"
    return [
        Target("gRPC through the edge to Go, one statement", grpc, GO_GRPC, rate, 1.3),
        Target("gRPC through the edge to Go, group commit", grpc, group, rate, 0.7),
        Target("REST through the edge to gin, one statement", rest, GO_GIN, rate, 1.0),
        Target("CPU of REST to CPU of gRPC", rest, grpc, cpu, 1.35, at_least=False),
        Target("heartbeats on the stream to Go, one statement", stream, GO_CALLS, rate, 2.0),
    ]


async def measure(dsn: str, *, seconds: int, rounds: int) -> None:
    """Measure and print."""
    agents = await make_template(dsn, CALLERS + SENDERS + READERS)
    programs = await asyncio.to_thread(_programs)
    postgres = await Postgres.of(dsn)
    client = None if isinstance(programs, str) else programs.client
    async with contextlib.AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sides = await _open(stack, _starters(await copies(dsn, 6), directory, programs))
        beats = Beats(directory, agents[:CALLERS], postgres, seconds, client)
        serving = {name: s for name, s in sides.items() if isinstance(s, Side) and s.dsn}
        for side in serving.values():
            await require_durable(side, agents[0])
        groups = _rows(sides, beats, Messages(agents[CALLERS:], postgres, seconds, client))
        await interleave(groups, rounds)
        lines = await beats.account(serving)
    _print(groups, lines, _INSIDE if _INSIDE in serving else _BEHIND)


def _programs() -> GoPrograms | str:
    try:
        return build_go()
    except Missing as why:
        return str(why)


def _print(groups: Groups, lines: list[str], judged: str) -> None:
    console = Console(width=120)
    console.print(table("Peers: the same work, one interleaved run", groups))
    rows: dict[str, Row] = {row.name: row for group in groups for row in group}
    reasons = [f"{row.name}: {why_not(row)}" for row in rows.values() if not row.rounds]
    for line in (
        *reasons,
        *lines,
        f"judged: {judged}",
        *(t.verdict(rows) for t in _targets(judged)),
    ):
        console.print(line)
    if failed := [row.name for row in rows.values() if row.failed]:
        sys.exit(f"failed: {', '.join(failed)}")


def main() -> None:
    """Entry of `python -m benchmarks.peers`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if shutil.which("h2load") is None:
        sys.exit("h2load is needed: apt-get install nghttp2-client")
    with durable_postgres() as dsn:
        asyncio.run(measure(dsn, seconds=arguments.seconds, rounds=arguments.rounds))


if __name__ == "__main__":
    main()
