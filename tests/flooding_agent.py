"""Runs the agent `floods` of `tests.fake_agent` in another process."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

from tests.fake_agent import fake_agent, floods


@contextlib.asynccontextmanager
async def flooding_agent(total: int) -> AsyncIterator[str]:
    """The URL of an agent that answers each call with `total` bytes, without saying how many."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, str(total), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        url = (await process.stdout.readline()).decode().strip()
        assert url, "the flooding agent did not start"
        yield url
    finally:
        process.kill()
        await process.wait()


async def _listen(total: int) -> None:
    async with fake_agent(floods(total, declared=False)) as agent:
        print(agent.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_listen(int(sys.argv[1])))
