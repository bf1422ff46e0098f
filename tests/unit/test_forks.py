"""Children that are forked while gRPC's threads run."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import molecule_grpc.cli
import asyncio, grpc.aio, subprocess

async def main():
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await channel.channel_ready()
        await asyncio.to_thread(subprocess.run, ["true"], preexec_fn=lambda: None)
    await server.stop(0)

asyncio.run(main())
"""


def test_a_fork_runs_no_handler_of_grpc() -> None:
    """A handler would say on standard error that it found other threads, or crash the child."""
    program = [sys.executable, "-c", _PROGRAM]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert done.stderr == ""
