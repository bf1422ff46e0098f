"""`molecule-grpc bundle`: workspaces with everything below them, as documents."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from google.protobuf import json_format
from moleculeai.workspace.v1 import bundle_pb2 as pb
from moleculeai.workspace.v1 import workspace_pb2

from molecule_grpc.cli.context import Cli, UsageError, asynchronous, find_workspace
from molecule_grpc.cli.output import visible

app = typer.Typer(no_args_is_help=True, help="Workspaces as documents to carry elsewhere.")

_STDIN = "-"


@app.command("export")
@asynchronous
async def export(
    context: typer.Context,
    workspace: Annotated[str, typer.Argument(metavar="WORKSPACE", help="Id or name.")],
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Where to write; stdout by default.")
    ] = None,
) -> None:
    """Write a workspace and everything below it as JSON, without secrets."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        found = await platform.bundles.export(await find_workspace(platform, workspace))
    text = json_format.MessageToJson(found, preserving_proto_field_name=True, indent=2)
    if file is None:
        print(text)
    else:
        file.write_text(f"{text}\n")
        cli.output.done(f"wrote {file}", file=str(file), id=found.id)
    for path, reason in _left_out(found):
        cli.output.warning(f"left out {path}: {reason}")


@app.command("import")
@asynchronous
async def import_(
    context: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A bundle as JSON; - for stdin.")],
    org: Annotated[str, typer.Option(help="Id of the organisation; operators only.")] = "",
) -> None:
    """Add the workspaces of a bundle, and start them. Exits 1 if one of them failed."""
    cli = Cli.of(context)
    bundle = _read(file)
    async with cli.platform() as platform:
        done = await platform.bundles.import_(bundle, org)
    if cli.output.as_json:
        cli.output.one(done)
    else:
        _show(done, 0)
    if _failed(done):
        raise typer.Exit(1)


def _read(file: str) -> pb.Bundle:
    """The bundle in a file.

    Raises:
        UsageError: the file cannot be read, or holds none.
    """
    try:
        text = sys.stdin.read() if file == _STDIN else Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error
    try:
        return json_format.Parse(text, pb.Bundle(), ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise UsageError(f"{file} is no bundle: {error}") from error


def _left_out(bundle: pb.Bundle) -> list[tuple[str, str]]:
    found = [(f"{bundle.name}: {each.path}", each.reason) for each in bundle.omitted]
    return found + [each for below in bundle.sub_workspaces for each in _left_out(below)]


def _show(done: pb.ImportBundleResponse, level: int) -> None:
    status = workspace_pb2.Workspace.Status.Name(done.status)
    why = f" ({done.error})" if done.error else ""
    print(visible(f"{'  ' * level}{done.name}\t{status}\t{done.workspace_id}{why}"))
    for each in done.children:
        _show(each, level + 1)


def _failed(done: pb.ImportBundleResponse) -> bool:
    failed = done.status == workspace_pb2.Workspace.Status.failed
    return failed or any(map(_failed, done.children))
