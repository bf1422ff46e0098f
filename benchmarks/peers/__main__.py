"""The same work by the product and by its peers, all on this machine, in one interleaved run.

    python -m benchmarks.peers [--seconds 4] [--rounds 3] [--earlier CHECKOUT]
        [--sides REGEX] [--only REGEX]

Heartbeats: 64 agents, each with a connection of its own, the same bytes to every server, by h2load.
Each server has a copy of one migrated database, checks the token by its SHA-256 and keeps the
answer for 30 s. Go is grpc-go and gin over pgx: one statement a call over 16 connections, or with
the same group commit as ours (all who wait in one statement, one flush at a time). The peers'
statements write the same columns and, unlike ours, no event when a status changes. `a call` and
`on the stream` have another client, written in Go, the same for both.

Messages: 64 agents append with SendMessage to the inboxes that 1,000 StreamInbox read; beside NATS
JetStream, one stream on files with fsync at every write, a consumer for each subject. Neither side
acknowledges items. Client and readers are one Go process. Only ours looks at who may write to whom,
counts an inbox's quota and keeps the message for polling, search and audit. `across` sends to one
installation and reads from another over the same database: every message crosses.

Delegations: 32 pairs of agents with a SubscribeInbox stream each, from Delegate over the callee's
stream and UpdateDelegation to the result on the caller's stream, beside a worker of an earlier
checkout, called directly.

`floor` is the host inside Envoy with the whole edge and an answer that was made before: what a
heartbeat costs more than that is the cost of pipeline, handler and group commit.

Ratios are medians over the rounds, to the row that the group names first. CPU is that of the server
with all its processes; Postgres stands beside it. Before the run every server is shown to answer
only after its commit; after it, answers are counted against rows written. Temporal's row is part of
`benchmarks.delegations`. Peers that cannot run here are SKIPPED, with the reason.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
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
from benchmarks.peers.databases import Postgres, copies, empty, make_template
from benchmarks.peers.delegations import PARTIES, Delegations
from benchmarks.peers.floor import floor
from benchmarks.peers.heartbeats import Beats
from benchmarks.peers.messages import READERS, SENDERS, Messages, nats
from benchmarks.peers.plan import (
    ACROSS,
    BEHIND,
    DIRECT,
    EARLIER,
    FASTAPI,
    FLOOR,
    GO_GROUP,
    GO_ONE,
    INSIDE,
    NATS,
    groups_of,
    leave_out,
    targets_of,
)
from benchmarks.peers.probe import require_durable
from benchmarks.peers.programs import GoPrograms, Missing, build_go
from benchmarks.peers.rounds import Groups, Row, interleave, table, why_not
from benchmarks.peers.sides import Side

Starters = dict[str, Callable[[], AbstractAsyncContextManager[Side]]]


def _starters(
    dsns: list[str], directory: Path, programs: GoPrograms | str, before: tuple[str, Path | None]
) -> Starters:
    behind, inside, across, direct, one, group, python = dsns

    def go(dsn: str, *, grouped: bool) -> AbstractAsyncContextManager[Side]:
        if isinstance(programs, str):
            raise Missing(programs)
        return start.go(dsn, programs, group=grouped)

    return {
        GO_ONE: lambda: go(one, grouped=False),
        GO_GROUP: lambda: go(group, grouped=True),
        FASTAPI: lambda: start.fastapi(python),
        DIRECT: lambda: start.direct(direct),
        BEHIND: lambda: start.behind_envoy(behind, directory),
        INSIDE: lambda: start.inside_envoy(inside, directory),
        ACROSS: lambda: start.across(across, directory),
        FLOOR: lambda: floor(directory),
        EARLIER: lambda: start.earlier(*before, PARTIES),
        NATS: lambda: nats(directory),
    }


async def _open(stack: AsyncExitStack, starters: Starters, wanted: str) -> dict[str, Side | str]:
    """Every server that is wanted and can run here; the reason for each of the others."""
    opened: dict[str, Side | str] = {}
    for name, starter in starters.items():
        try:
            if not re.search(wanted, name):
                raise Missing("not asked for")
            opened[name] = await stack.enter_async_context(starter())
        except Missing as why:
            opened[name] = str(why)
    return opened


async def measure(dsn: str, arguments: argparse.Namespace) -> None:
    """Measure and print."""
    agents = await make_template(dsn, CALLERS + SENDERS + READERS)
    programs = await asyncio.to_thread(_programs)
    postgres = await Postgres.of(dsn)
    client = None if isinstance(programs, str) else programs.client
    before = await empty(dsn), arguments.earlier
    async with contextlib.AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        starters = _starters(await copies(dsn, 7), directory, programs, before)
        sides = await _open(stack, starters, arguments.sides)
        common = postgres, arguments.seconds, client
        beats = Beats(directory, agents[:CALLERS], *common)
        beating = {
            name: side
            for name, side in sides.items()
            if isinstance(side, Side) and side.dsn and not side.agents
        }
        for side in beating.values():
            await require_durable(side, agents[0])
        groups = groups_of(
            sides,
            beats,
            Messages(agents[CALLERS:], *common),
            Delegations(agents[:PARTIES], *common),
        )
        leave_out(groups, arguments.only)
        await interleave(groups, arguments.rounds)
        lines = await beats.account(beating)
    _print(groups, lines, INSIDE if INSIDE in beating else BEHIND)


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
        *(target.verdict(rows) for target in targets_of(judged)),
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
    parser.add_argument("--sides", default="", help="servers whose names this expression matches")
    parser.add_argument("--only", default="", help="rows whose names this expression matches")
    parser.add_argument("--earlier", type=Path, help="a checkout of an earlier version")
    arguments = parser.parse_args()
    if shutil.which("h2load") is None:
        sys.exit("h2load is needed: apt-get install nghttp2-client")
    with durable_postgres() as dsn:
        asyncio.run(measure(dsn, arguments))


if __name__ == "__main__":
    main()
