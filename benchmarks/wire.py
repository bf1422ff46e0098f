"""RPCs end to end against the floor of the same host: the product's cost above an echo.

    python -m benchmarks.wire [--seconds 4] [--rounds 3]

The load comes from h2load (Debian: nghttp2-client), one small process per caller, so that no
Python client limits the rate and every caller is its own workspace. Variants take turns. A load
tool counts a gRPC error as HTTP 200, so the written rows are counted separately. The floor is an
unmodified grpc.aio; a second echo has the poller on the loop's core, like the server.
`through Envoy` is an installation as `molecule-grpc up` starts it, with one worker, over the same
Postgres: gRPC, and REST/JSON over HTTP/1.1 with one kept connection per caller. CPU is the sum of
Envoy and worker (the worker alone for direct calls), without Postgres and the load tool.
Targets: heartbeat at 0.6 of the echo at 64 concurrent; REST through Envoy at no more than 1.5
times the CPU of the same call over gRPC directly.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from google.protobuf.json_format import MessageToJson
from moleculeai.delegation.v1 import delegation_service_pb2 as delegation_pb
from moleculeai.workspace.v1 import workspace_service_pb2 as workspace_pb
from rich.console import Console
from rich.table import Table

from benchmarks.h2load import CALLERS, Generator, Load, frames
from benchmarks.harness import (
    Agent,
    Worker,
    cpu_seconds,
    durable_postgres,
    free_port,
    listening,
    make_agents,
    workers,
)
from benchmarks.installations import installation
from molecule_grpc.db.pool import connect
from tests.running import RunningServer

_HEARTBEAT = "moleculeai.workspace.v1.WorkspaceService/Heartbeat"
_DELEGATE = "moleculeai.delegation.v1.DelegationService/Delegate"
_REPORT = "moleculeai.delegation.v1.DelegationService/ReportActivity"


def _loads(
    agents: list[Agent], worker: Worker, edge: RunningServer, echo: str, following: str
) -> list[Load]:
    target = worker.target
    mates = agents[CALLERS : 2 * CALLERS]
    beats = [workspace_pb.HeartbeatRequest(workspace_id=str(a.id), active_tasks=1) for a in agents]
    tasks = [
        delegation_pb.DelegateRequest(workspace_id=str(a.id), target_id=str(b.id), task="x" * 200)
        for a, b in zip(agents, mates, strict=False)
    ]
    reports = [
        delegation_pb.ReportActivityRequest(
            workspace_id=str(a.id), activity_type="agent_log", summary="x" * 200
        )
        for a in agents
    ]
    return [
        Load("echo (floor)", f"http://{echo}/bench.Echo/Call", frames(beats)),
        Load("echo, poller following", f"http://{following}/bench.Echo/Call", frames(beats)),
        Load(
            "heartbeat",
            f"http://{target}/{_HEARTBEAT}",
            frames(beats),
            cpu=worker.cpu_seconds,
        ),
        Load(
            "heartbeat through Envoy",
            f"{edge.url}/{_HEARTBEAT}",
            frames(beats),
            cpu=lambda: cpu_seconds(edge.pid),
        ),
        Load(
            "heartbeat as REST through Envoy",
            f"{edge.url}/registry/heartbeat",
            [MessageToJson(beat, preserving_proto_field_name=True).encode() for beat in beats][
                :CALLERS
            ],
            rest=True,
            cpu=lambda: cpu_seconds(edge.pid),
        ),
        Load(
            "delegate",
            f"http://{target}/{_DELEGATE}",
            frames(tasks),
            "SELECT count(*) FROM delegations",
            cpu=worker.cpu_seconds,
        ),
        Load(
            "activity append",
            f"http://{target}/{_REPORT}",
            frames(reports),
            "SELECT count(*) FROM activity_logs WHERE activity_type = 'agent_log'",
            cpu=worker.cpu_seconds,
        ),
    ]


@contextlib.asynccontextmanager
async def _echo(*flags: str) -> AsyncIterator[str]:
    port = free_port()
    target = f"127.0.0.1:{port}"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.echo_server",
        f"--address={target}",
        *flags,
        env={**os.environ, "GRPC_EXPERIMENTS": "-event_engine_listener"},
    )
    try:
        await listening(port)
        yield target
    finally:
        process.kill()
        await process.wait()


async def measure(dsn: str, *, seconds: int, rounds: int) -> Table:
    """Measure every load `rounds` times; the table of ratios."""
    agents = await make_agents(dsn, 2 * CALLERS)
    connection = await connect(dsn)
    rates: dict[str, list[float]] = {}
    costs: dict[str, list[float]] = {}
    confirmed: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        async with (
            workers(dsn) as (worker,),
            installation(dsn, directory / "edge") as edge,
            _echo() as echo,
            _echo("--follow") as following,
        ):
            generator = Generator(directory, agents)
            loads = _loads(agents, worker, edge, echo, following)
            for load in loads:
                await generator.run(load, 1)
            for _ in range(rounds):
                for load in loads:
                    before = await connection.fetchval(load.count) if load.count else 0
                    spent = load.cpu()
                    rate = (await generator.run(load, seconds)).rate
                    rates.setdefault(load.name, []).append(rate)
                    cost = (load.cpu() - spent) / (rate * seconds)
                    costs.setdefault(load.name, []).append(cost * 1_000_000)
                    if load.count:
                        written = await connection.fetchval(load.count) - before
                        confirmed[load.name] = f"{written / seconds:,.0f}/s"
    await connection.close()
    return _table(rates, costs, confirmed)


def _table(
    rates: dict[str, list[float]], costs: dict[str, list[float]], confirmed: dict[str, str]
) -> Table:
    table = Table(title=f"RPCs at {CALLERS} callers, each its own workspace and connection")
    for heading in (
        "RPC",
        "calls/s (median)",
        "ratio to echo",
        "CPU µs a call",
        "ratio to heartbeat",
        "rows written",
    ):
        table.add_column(heading, justify="left" if heading == "RPC" else "right")
    floor = rates["echo (floor)"]
    for name, values in rates.items():
        ratio = statistics.median(v / f for v, f in zip(values, floor, strict=True))
        cost = statistics.median(costs[name])
        dearer = statistics.median(
            c / b for c, b in zip(costs[name], costs["heartbeat"], strict=True)
        )
        table.add_row(
            name,
            f"{statistics.median(values):,.0f}",
            f"{ratio:.2f}",
            f"{cost:.0f}" if cost else "",
            f"{dearer:.2f}" if "heartbeat" in name else "",
            confirmed.get(name, ""),
        )
    return table


def main() -> None:
    """Entry of `python -m benchmarks.wire`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    if shutil.which("h2load") is None:
        sys.exit("h2load is needed: apt-get install nghttp2-client")
    with durable_postgres() as dsn:
        table = asyncio.run(measure(dsn, seconds=arguments.seconds, rounds=arguments.rounds))
    Console().print(table)


if __name__ == "__main__":
    main()
