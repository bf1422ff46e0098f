"""Makes two sibling workspaces, and starts a worker and a coordinator in them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from molecule_grpc.cli.context import read_token
from molecule_grpc.cli.failures import report
from molecule_grpc.cli.output import Output
from molecule_grpc.client.errors import AlreadyExists, CallError
from molecule_grpc.client.platform import Platform

HERE = Path(__file__).parent


async def join(platform: Platform, name: str) -> tuple[str, str]:
    """The id and a token of the workspace of this name; creates the workspace if missing."""
    try:
        made = await platform.create_workspace(name, role="two_agents example")
        return made.id, made.connection.auth_token
    except AlreadyExists:
        found = [each.id async for each in platform.workspaces() if each.name == name]
        return found[0], (await platform.create_token(found[0])).auth_token


async def run(url: str, token: str, *, shell: bool, think: float, arguments: list[str]) -> int:
    async with Platform(url, token) as platform:
        worker_id, worker_token = await join(platform, "example-worker")
        coordinator_id, coordinator_token = await join(platform, "example-coordinator")
    program = [HERE / "worker.sh"] if shell else [sys.executable, HERE / "worker.py"]
    think_arguments = [str(think)] if shell else ["--think", str(think)]
    worker = await start([*program, worker_id, *think_arguments], url, worker_token)
    coordinator = await start(
        [sys.executable, HERE / "coordinator.py", coordinator_id, worker_id, *arguments],
        url,
        coordinator_token,
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, coordinator.terminate)
    try:
        return await coordinator.wait()
    finally:
        for process in (coordinator, worker):
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGTERM)  # a shell has children
                await process.wait()


async def start(command: list[str | Path], url: str, token: str) -> asyncio.subprocess.Process:
    """Start a process in a group of its own; the token is in its environment, hidden from `ps`."""
    environment = {**os.environ, "MOLECULE_URL": url, "MOLECULE_TOKEN": token}
    environment["PYTHON"] = sys.executable
    return await asyncio.create_subprocess_exec(
        *map(str, command), env=environment, start_new_session=True
    )


def main(
    context: typer.Context,
    *,
    shell: Annotated[bool, typer.Option("--shell", help="With the worker as a script.")] = False,
    think: Annotated[float, typer.Option(help="Seconds to think about each task.")] = 0.0,
    url: Annotated[str, typer.Option(envvar="MOLECULE_URL")] = "http://127.0.0.1:8080",
    token: Annotated[str, typer.Option(envvar=["MOLECULE_TOKEN", "ADMIN_TOKEN"])] = "",
    data_dir: Annotated[Path, typer.Option(envvar="MOLECULE_DATA_DIR")] = Path("data"),
) -> None:
    """Start both agents. Further options go to the coordinator: --tree, --job, --json."""
    token = token or read_token(data_dir)
    try:
        code = asyncio.run(run(url, token, shell=shell, think=think, arguments=context.args))
    except CallError as error:
        code = report(error, Output(as_json=False), url)
    raise typer.Exit(code)


if __name__ == "__main__":
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(main)
    app()
