"""Whole delegations, from Delegate to the result on the caller's stream: ours, now and before."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.clients import run_client
from benchmarks.harness import Agent
from benchmarks.peers.databases import Postgres
from benchmarks.peers.rounds import Figures, Row
from benchmarks.peers.sides import Side

PARTIES = 64
ALONE, IN_FLIGHT = "one at a time", "128 in flight"
_AT_ONCE = {ALONE: 1, IN_FLIGHT: 128}


@dataclass(frozen=True, slots=True)
class Delegations:
    """Makes rows of delegations: each second agent works for the one before it."""

    agents: Sequence[Agent]
    postgres: Postgres
    seconds: int
    client: Path | None

    def row(self, name: str, side: Side | str, kind: str, base: str = "") -> Row:
        """The row of one server; skipped without a server."""
        title = f"{name}, {kind}"
        if isinstance(side, str):
            return Row(title, base=base, skipped=side)
        if self.client is None:
            return Row(title, base=base, skipped="its client is a Go program")
        return Row(title, self._run(side, kind, self.client), base)

    def _run(self, side: Side, kind: str, client: Path) -> Callable[[], Awaitable[Figures]]:
        agents = (side.agents or self.agents)[: 2 if kind == ALONE else PARTIES]
        plan = {
            "work": "delegations",
            "target": side.grpc,
            "agents": [(str(agent.id), agent.token) for agent in agents],
            "seconds": self.seconds,
            "in_flight": _AT_ONCE[kind],
        }

        async def run() -> Figures:
            seen = await run_client([str(client)], plan, lambda: (side.cpu(), self.postgres.cpu()))
            return Figures.of(seen)

        return run
