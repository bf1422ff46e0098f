"""A worker agent: each task names a Python file; the result is a report on the file."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Annotated

import typer
from analysis import analyse

from molecule_grpc.client.agent import Agent
from molecule_grpc.client.errors import TaskFailed
from molecule_grpc.client.items import Item

log = logging.getLogger("worker")


async def work(url: str, workspace: str, token: str, think: float) -> None:
    async with Agent(url, workspace, token) as agent:
        await agent.register({"name": "worker", "skills": [{"id": "analyse-python"}]})

        async def handle(item: Item) -> str | None:
            if not item.is_task:
                log.info("%s says: %s", item.source_name or "the human", item.text)
                return None
            path = Path(json.loads(item.text)["path"])
            agent.current_task = f"reading {path.name}"
            await asyncio.sleep(think)
            try:
                report = await asyncio.to_thread(analyse, path)
            except (OSError, SyntaxError) as error:
                raise TaskFailed(f"{path}: {error}") from error
            log.info("did %s", path)
            return json.dumps(report)

        await agent.serve(handle, concurrency=2)


def main(
    workspace: Annotated[str, typer.Argument(help="Id of our workspace.")],
    think: Annotated[float, typer.Option(help="Seconds to think about each task.")] = 0.0,
    url: Annotated[str, typer.Option(envvar="MOLECULE_URL")] = "http://127.0.0.1:8080",
    token: Annotated[str, typer.Option(envvar="MOLECULE_TOKEN")] = "",
) -> None:
    """Serve tasks until stopped."""
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    asyncio.run(work(url, workspace, token, think))


if __name__ == "__main__":
    typer.run(main)
