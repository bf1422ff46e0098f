"""An agent behind NAT that receives files and prints its messages."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from molecule_grpc.client.agent import Agent


async def main(url: str, workspace_id: str, token: str, folder: str) -> None:
    async with Agent(url, workspace_id, token) as agent:
        async for item in agent.files(Path(folder)).follow(agent.inbox()):
            print(item.body, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
