"""Client processes of benchmarks: each gets a plan, says when it is ready, works, and reports."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.harness import percentile

_FINISH_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Result:
    """One round of one variant: works per second, milliseconds, and CPU in cores."""

    rate: float
    p50: float
    p99: float
    server: float
    database: float
    client: float


async def run_client(
    command: Sequence[str], plan: dict[str, Any], cpu: Callable[[], tuple[float, float]]
) -> Result:
    """Run a client process with this plan; its figures, and the CPU spent by the servers.

    The process reads the plan (one line of JSON), prints `ready`, works from its second line on,
    and prints `{"took": [milliseconds of each work], "cpu": seconds}`.
    """
    client = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=2**26
    )
    assert client.stdin
    assert client.stdout
    try:
        client.stdin.write(json.dumps(plan).encode() + b"\n")
        assert (await client.stdout.readline()).strip() == b"ready", "the clients did not start"
        before = cpu()
        client.stdin.write(b"go\n")
        line = await client.stdout.readline()
        after = cpu()
        assert line, "a client failed, see above"
        async with asyncio.timeout(_FINISH_SECONDS):
            await client.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            client.kill()
        await client.wait()
    assert client.returncode == 0, "the clients failed"
    seen, seconds = json.loads(line), plan["seconds"]
    return Result(
        len(seen["took"]) / seconds,
        percentile(seen["took"], 0.5),
        percentile(seen["took"], 0.99),
        (after[0] - before[0]) / seconds,
        (after[1] - before[1]) / seconds,
        seen["cpu"] / seconds,
    )
