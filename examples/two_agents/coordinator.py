"""Delegates one task for each Python file of a tree, and shows the results as they arrive."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from molecule_grpc.client.agent import Agent


class Board:
    """The results so far: a table for people, or a line of JSON for each."""

    def __init__(self, total: int, *, as_json: bool) -> None:
        self._as_json = as_json
        self._total = total
        self._table = Table("file", "functions", "longest", "lines", "hardest", "complexity")
        self.live = Live(self._table, console=Console(quiet=as_json), refresh_per_second=8)

    def show(self, path: Path, status: str, report: dict[str, Any]) -> None:
        if self._as_json:
            print(json.dumps({"file": str(path), "status": status, "report": report}), flush=True)
            return
        cells = ("functions", "longest", "longest_lines", "hardest", "complexity")
        shown = [str(report.get(cell, "")) for cell in cells]
        self._table.add_row(path.name, *(shown if status == "completed" else [status]))
        self._table.caption = f"{len(self._table.rows)} of {self._total}"


def python_files(tree: str) -> list[Path]:
    """The files of a directory, or of an installed package."""
    root = Path(tree)
    if not root.is_dir():
        spec = importlib.util.find_spec(tree)
        if spec is None or spec.origin is None:
            raise typer.BadParameter(f"{tree} is neither a directory nor a package")
        root = Path(spec.origin).parent
    return sorted(root.rglob("*.py"))


def key_of(path: Path, job: str) -> str:
    """The idempotency key of a file's content: a restarted coordinator finds its own tasks."""
    return f"{job}:{hashlib.sha256(str(path).encode() + path.read_bytes()).hexdigest()[:32]}"


async def coordinate(agent: Agent, target: str, files: list[Path], job: str, board: Board) -> None:
    waiting: dict[str, Path] = {}
    for path in files:
        task = json.dumps({"path": str(path)})
        made = await agent.delegate(target, task, idempotency_key=key_of(path, job))
        waiting[made.id] = path
        if made.known:  # delegated by an earlier run, which may have acked the result
            found = await agent.delegation(made.id)
            if found.final:
                show(board, waiting.pop(made.id), found.status, found.text)
    if not waiting:
        return
    async for item in agent.inbox():
        if item.is_result and item.delegation_id in waiting:
            status = "completed" if item.status == "ok" else "failed"
            show(board, waiting.pop(item.delegation_id), status, item.text)
        if not waiting:
            await item.ack()
            break


def show(board: Board, path: Path, status: str, text: str) -> None:
    board.show(path, status, json.loads(text) if status == "completed" else {"error": text})


async def run(agent: Agent, target: str, files: list[Path], job: str, board: Board) -> None:
    async with agent:
        await agent.register({"name": "coordinator"})
        with board.live:
            await coordinate(agent, target, files, job, board)


def main(
    workspace: Annotated[str, typer.Argument(help="Id of our workspace.")],
    target: Annotated[str, typer.Argument(help="Id of the worker's workspace.")],
    *,
    tree: Annotated[str, typer.Option(help="A directory, or a package.")] = "json",
    job: Annotated[str, typer.Option(help="Another job does everything again.")] = "two-agents",
    as_json: Annotated[bool, typer.Option("--json", help="One line of JSON a result.")] = False,
    url: Annotated[str, typer.Option(envvar="MOLECULE_URL")] = "http://127.0.0.1:8080",
    token: Annotated[str, typer.Option(envvar="MOLECULE_TOKEN")] = "",
) -> None:
    """Delegate one task for each Python file, and show the results."""
    files = python_files(tree)
    board = Board(len(files), as_json=as_json)
    asyncio.run(run(Agent(url, workspace, token), target, files, job, board))


if __name__ == "__main__":
    typer.run(main)
