"""Heartbeats of 64 agents, each with a connection of its own: ours beside those of the peers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from google.protobuf.json_format import MessageToJson
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from benchmarks.clients import run_client
from benchmarks.h2load import CALLERS, Generator, Load, frames
from benchmarks.harness import Agent, percentile
from benchmarks.peers.databases import Postgres, written
from benchmarks.peers.rounds import MILLION, Figures, Row
from benchmarks.peers.sides import Side

_HEARTBEAT = "moleculeai.workspace.v1.WorkspaceService/Heartbeat"
GRPC, REST, CALLS, STREAM = "gRPC", "REST", "a call", "on the stream"

# The rows that others are compared with.
GO_GRPC = f"Go, grpc-go, one statement, {GRPC}"
GO_GIN = f"Go, gin, one statement, {REST}"
GO_CALLS = f"Go, grpc-go, one statement, {CALLS}"


@dataclass(slots=True)
class Beats:
    """Makes rows of heartbeats, and counts the answers of each database's server."""

    directory: Path
    agents: list[Agent]
    postgres: Postgres
    seconds: int
    client: Path | None
    _answered: Counter[str] = field(default_factory=Counter)

    def row(self, name: str, side: Side | str, kind: str, base: str = "") -> Row:
        """The row of one server and one way to send heartbeats; skipped without a server.

        Args:
            side: the server, or why there is none.
        """
        if isinstance(side, str):
            return Row(f"{name}, {kind}", base=base, skipped=side)
        if kind in {GRPC, REST}:
            return Row(f"{name}, {kind}", self._by_h2load(side, rest=kind == REST), base)
        if self.client is None:
            return Row(f"{name}, {kind}", base=base, skipped="its client is a Go program")
        return Row(f"{name}, {kind}", self._by_client(side, f"beats, {kind}", self.client), base)

    def _by_h2load(self, side: Side, *, rest: bool) -> Callable[[], Awaitable[Figures]]:
        beats = [pb.HeartbeatRequest(workspace_id=str(a.id), active_tasks=1) for a in self.agents]
        texts = [MessageToJson(beat, preserving_proto_field_name=True).encode() for beat in beats]
        url = (
            f"http://{side.rest}/registry/heartbeat" if rest else f"http://{side.grpc}/{_HEARTBEAT}"
        )
        load = Load("", url, texts[:CALLERS] if rest else frames(beats), rest=rest)
        generator = Generator(self.directory, self.agents, timed=True)

        async def run() -> Figures:
            spent, database = side.cpu(), self.postgres.cpu()
            seen = await generator.run(load, self.seconds)
            works = len(seen.took)
            assert works, f"{url}: nothing was answered in {self.seconds} s"
            self._answered[side.dsn] += works
            return Figures(
                works / self.seconds,
                percentile(seen.took, 0.5),
                percentile(seen.took, 0.99),
                (side.cpu() - spent) / works * MILLION,
                (self.postgres.cpu() - database) / works * MILLION,
            )

        return run

    def _by_client(self, side: Side, work: str, client: Path) -> Callable[[], Awaitable[Figures]]:
        plan = {
            "work": work,
            "target": side.grpc,
            "agents": [(str(agent.id), agent.token) for agent in self.agents[:CALLERS]],
            "seconds": self.seconds,
        }

        async def run() -> Figures:
            seen = await run_client([str(client)], plan, lambda: (side.cpu(), self.postgres.cpu()))
            self._answered[side.dsn] += round(seen.rate * self.seconds)
            return Figures.of(seen)

        return run

    async def account(self, sides: dict[str, Side]) -> list[str]:
        """One line per server: answered heartbeats beside updated rows in Postgres.

        Raises AssertionError if a server answered more than it wrote: a load tool counts an error
        of gRPC as a success, since both are HTTP 200.
        """
        lines = []
        for name, side in sides.items():
            answered = self._answered[side.dsn]
            rows = await written(side.dsn, answered)
            assert rows >= answered, f"{name}: {answered} answered, {rows} written"
            lines.append(f"{name}: {answered:,} answered, {rows:,} rows written")
        return lines
