"""`molecule-grpc workspace logs`, `exec`, `files` and `top`: what runs in workspaces."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer
from moleculeai.workspace.v1 import access_pb2

from molecule_grpc.cli import terminal
from molecule_grpc.cli.context import Cli, UsageError, asynchronous, find_workspace
from molecule_grpc.cli.output import to_dict, visible
from molecule_grpc.client.errors import Unavailable

Name = Annotated[str, typer.Argument(metavar="WORKSPACE", help="Id or name.")]
FilePath = Annotated[
    str, typer.Argument(metavar="PATH", help="Below /configs, or absolute: /workspace/notes.txt.")
]

_ROOTS = ("/configs", "/workspace", "/home", "/plugins")
_FILE_COLUMNS = ("path", "size", "dir", "modified_at")
_USAGE_COLUMNS = ("name", "cpu", "memory", "of", "pids", "workspace_id", "error")
_MIB = 1024 * 1024

files_app = typer.Typer(no_args_is_help=True, help="Files in a workspace.")


def add_to(app: typer.Typer) -> None:
    """Add the commands to those of workspaces."""
    app.command("logs")(asynchronous(logs))
    app.command("exec")(asynchronous(execute))
    app.command("top")(asynchronous(top))
    app.command("console")(asynchronous(console))
    app.add_typer(files_app, name="files")


async def logs(
    context: typer.Context,
    workspace: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it ends.")] = False,
    tail: Annotated[int, typer.Option(min=0, help="Only so many last lines; 0 for all.")] = 0,
) -> None:
    """Print what an agent has printed."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        workloads, place = platform.workloads, ""
        while True:
            try:
                async for chunk in workloads.logs(
                    workspace_id, tail=tail, follow=follow, resume_after=place
                ):
                    place, tail = chunk.resume_token or place, 0
                    _print_chunk(cli, chunk)
            except Unavailable as error:
                if error.reason != "DRAINING":
                    raise
            else:
                return


async def execute(
    context: typer.Context,
    workspace: Name,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[-- COMMAND...]", help="Default: a shell.")
    ] = None,
    tty: Annotated[
        bool | None,
        typer.Option("--tty/--no-tty", "-t", help="With a terminal. Default: if this is one."),
    ] = None,
) -> None:
    """Run a command, or a shell, in a workspace; ends with the command's exit code."""
    cli = Cli.of(context)
    here = sys.stdin.isatty() and sys.stdout.isatty()
    wanted = here if tty is None else tty
    size = terminal.size_here() if wanted else None
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        run = platform.workloads.run(workspace_id, command or (), terminal=size)
        async with run as opened:
            code = await terminal.join(opened, interactive=wanted and here)
    raise typer.Exit(code)


async def top(
    context: typer.Context,
    workspace: Annotated[
        str | None, typer.Argument(metavar="[WORKSPACE]", help="Id or name. Default: all.")
    ] = None,
    every: Annotated[
        float, typer.Option(min=0, help="Measure again after so many seconds; 0 for once.")
    ] = 0,
) -> None:
    """Show what workloads use: processors, memory, processes."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workloads = platform.workloads
        workspace_id = await find_workspace(platform, workspace) if workspace else ""
        while True:
            rows = (
                [await workloads.stats(workspace_id)]
                if workspace_id
                else await workloads.all_stats()
            )
            _print_usage(cli, rows)
            if not every:
                return
            await asyncio.sleep(every)


async def console(context: typer.Context, workspace: Name) -> None:
    """Print what the machine under a workspace has printed."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        cli.output.result(await platform.workloads.console(workspace_id))


@files_app.command("ls")
@asynchronous
async def list_files(
    context: typer.Context,
    workspace: Name,
    path: Annotated[str, typer.Argument(metavar="[PATH]", help="Default: /configs.")] = "/configs",
    depth: Annotated[int, typer.Option(min=1, max=5, help="Levels.")] = 1,
) -> None:
    """List a directory."""
    cli = Cli.of(context)
    root, below = _split(path)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        rows = await platform.workloads.files(workspace_id, root, below, depth=depth)
    cli.output.table(rows, _FILE_COLUMNS, empty="nothing there")


@files_app.command("cat")
@asynchronous
async def cat(context: typer.Context, workspace: Name, path: FilePath) -> None:
    """Print a file, byte for byte."""
    cli = Cli.of(context)
    root, below = _split(path)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        pieces = platform.workloads.read_file(workspace_id, below, root)
        async for piece in pieces:
            sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


@files_app.command("get")
@asynchronous
async def get(
    context: typer.Context,
    workspace: Name,
    path: FilePath,
    to: Annotated[
        Path, typer.Argument(metavar="[FILE]", help="Default: the file's name.")
    ] = Path(),
) -> None:
    """Fetch a file. An existing file is replaced after the last byte has come."""
    cli = Cli.of(context)
    root, below = _split(path)
    target = to / PurePosixPath(below).name if to.is_dir() else to
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        async with cli.platform() as platform:
            workspace_id = await find_workspace(platform, workspace)
            pieces = platform.workloads.read_file(workspace_id, below, root)
            with unfinished.open("wb") as file:
                async for piece in pieces:
                    file.write(piece)
        unfinished.replace(target)
    except OSError as error:
        raise UsageError(f"{target} cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()
    cli.output.done(f"{target}", path=str(target), size=target.stat().st_size)


@files_app.command("put")
@asynchronous
async def put(
    context: typer.Context,
    workspace: Name,
    source: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False)],
    path: FilePath,
) -> None:
    """Replace a file in a workspace by a local one, at most 100 MiB."""
    cli = Cli.of(context)
    root, below = _split(path)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        size = await platform.workloads.write_file(workspace_id, below, source, root)
    cli.output.done(f"saved {path}", path=path, size=size, status="saved")


@files_app.command("rm")
@asynchronous
async def remove(context: typer.Context, workspace: Name, path: FilePath) -> None:
    """Delete a file or a link in a workspace."""
    cli = Cli.of(context)
    root, below = _split(path)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        await platform.workloads.delete_file(workspace_id, below, root)
    cli.output.done(f"deleted {path}", path=path, status="deleted")


def _split(path: str) -> tuple[str, str]:
    """Root and relative path of what a person wrote."""
    for root in _ROOTS:
        if path == root or path.startswith(f"{root}/"):
            return root, path[len(root) + 1 :]
    if path.startswith("/"):
        raise UsageError(f"{path} is below none of {', '.join(_ROOTS)}")
    return "", path


def _print_chunk(cli: Cli, chunk: access_pb2.LogChunk) -> None:
    if cli.output.as_json:
        cli.output.line(chunk, "")
    else:
        text = visible(chunk.text) if sys.stdout.isatty() else chunk.text
        print(text, end="", flush=True)


def _print_usage(cli: Cli, rows: list[access_pb2.WorkspaceStats]) -> None:
    if cli.output.as_json:
        cli.output.table(rows, ())
        return
    shown = [_usage(to_dict(row)) for row in rows]
    cli.output.table(
        shown,
        ("name", "cpu", "memory", "of", "pids", "workspace_id", "error"),
        empty="nothing runs",
    )


def _usage(row: dict[str, object]) -> dict[str, object]:
    measured = not row["error"]
    return {
        **row,
        "cpu": f"{float(str(row['cpu'])):.2f}" if measured else "",
        "memory": _mib(row["memory_bytes"]) if measured else "",
        "of": _mib(row["memory_limit_bytes"]) if measured else "",
        "pids": row["pids"] if measured else "",
    }


def _mib(count: object) -> str:
    return f"{float(str(count)) / _MIB:.0f} MiB"
