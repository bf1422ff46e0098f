"""`molecule-grpc upload` and `files`: sends files to agents, lists and fetches waiting ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from molecule_grpc.cli.context import Cli, UsageError, asynchronous, find_workspace
from molecule_grpc.cli.workspaces import Name
from molecule_grpc.client.files import Files
from molecule_grpc.client.sending import send_files

app = typer.Typer(no_args_is_help=True, help="Files: what waits for agents.")

_COLUMNS = ("file_id", "name", "mime_type", "size", "created_at", "fetched_at")
_SENT_COLUMNS = ("uri", "name", "mime_type", "size")


@asynchronous
async def upload(
    context: typer.Context,
    workspace: Name,
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", exists=True, dir_okay=False, readable=True)
    ],
    key: Annotated[
        str, typer.Option(help="Names this upload: a repeat with the same key makes no second set.")
    ] = "",
) -> None:
    """Send files to a workspace's agent, all or none."""
    cli = Cli.of(context)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=cli.output.notes,
        transient=True,
        disable=cli.output.as_json or not cli.output.notes.is_terminal,
    )
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        with bar:
            task = bar.add_task("sending", total=sum(path.stat().st_size for path in files))
            sent = await send_files(
                platform.connection,
                workspace_id,
                files,
                request_id=key,
                progress=lambda done: bar.update(task, completed=done),
            )
    cli.output.table(sent, _SENT_COLUMNS)


@app.command("ls")
@asynchronous
async def list_all(context: typer.Context, workspace: Name) -> None:
    """List the files that a workspace's agent has not acknowledged."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        files = Files(platform.connection, workspace_id, Path())
        cli.output.table(await files.waiting(), _COLUMNS, empty="no file waits")


@app.command("get")
@asynchronous
async def get(
    context: typer.Context,
    workspace: Name,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Id or name.")],
    to: Annotated[Path, typer.Option(help="Folder to put it into.")] = Path(),
) -> None:
    """Fetch a waiting file, and say that it is safely here."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        files = Files(platform.connection, workspace_id, to)
        found = [one for one in await files.waiting() if file in (one.file_id, one.name)]
        if len(found) != 1:
            told = f"{len(found)} files are named" if found else "no waiting file is named"
            raise UsageError(f"{told} {file!r}: `molecule-grpc files ls` shows their ids")
        path = await files.fetch(found[0].file_id, found[0].name)
    cli.output.done(f"{path}", path=str(path), file_id=found[0].file_id)
