"""`molecule-grpc org import` and `org templates`."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final

import typer
from moleculeai.admin.v1 import template_pb2 as pb
from moleculeai.workspace.v1 import workspace_pb2
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from molecule_grpc.cli.context import Cli, UsageError, asynchronous
from molecule_grpc.cli.output import Output, visible
from molecule_grpc.client.platform import Platform

_TEMPLATE_COLUMNS: Final = ("dir", "name", "workspaces", "required_env", "description")
_LEFT_OUT: Final = frozenset({".git", "node_modules", "__pycache__"})
_MOST_BYTES: Final = 2_900_000
_LOOK_SECONDS: Final = 1.0
_UNDER_WAY: Final = frozenset({"provisioning", "offline"})
_STYLES: Final = {"online": "green", "failed": "red", "fail": "red", "differ": "yellow"}


def add_to(app: typer.Typer) -> None:
    """Add the commands to `org`."""
    app.command("templates")(templates)
    app.command("import")(import_org)


@asynchronous
async def templates(context: typer.Context) -> None:
    """List the templates of organisations that lie on the server."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        found = await platform.templates.of_organizations()
    cli.output.table(found, _TEMPLATE_COLUMNS, empty="the server has no templates")


@asynchronous
async def import_org(
    context: typer.Context,
    template: Annotated[
        str, typer.Argument(help="A directory, a tar or a zip here; else a name of org templates.")
    ],
    dry_run: Annotated[bool, typer.Option(help="Show only what would be done.")] = False,
    watch: Annotated[bool, typer.Option(help="Go on until every workspace is up.")] = False,
    force: Annotated[bool, typer.Option(help="Though required variables have no value.")] = False,
    organization: Annotated[str, typer.Option(help="UUID, for the operator.")] = "",
) -> None:
    """Create the workspaces of a template; existing workspaces are left unchanged.

    Exit code 1 if a workspace could not be created, or with --watch did not come up.
    """
    cli = Cli.of(context)
    directory, archive = _source(template)
    async with cli.platform() as platform:
        done = await platform.templates.import_org(
            directory,
            archive=archive,
            force=force,
            dry_run=dry_run,
            organization_id=organization,
        )
        if not watch or dry_run:
            _show(cli.output, done)
        failed = bool(done.error)
        if watch and not dry_run:
            failed = await _watch(cli.output, platform, done) or failed
        _tell(cli.output, done)
    if failed:
        raise typer.Exit(1)


def _source(template: str) -> tuple[str, bytes]:
    """The name of a template on the server, or the bytes of one that lies here.

    Raises:
        UsageError: the template is too large.
    """
    path = Path(template).expanduser()
    if path.is_dir():
        archive = _packed(path)
    elif path.is_file():
        archive = path.read_bytes()
    else:
        return template, b""
    if len(archive) > _MOST_BYTES:
        raise UsageError(f"{template} has more than {_MOST_BYTES} bytes: put it on the server")
    return "", archive


def _packed(root: Path) -> bytes:
    """The regular files of a directory as a tar.gz; links are left out."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        for directory, names, files in os.walk(root):
            names[:] = sorted(set(names) - _LEFT_OUT)
            for name in sorted(files):
                path = Path(directory) / name
                if path.is_file() and not path.is_symlink():
                    archive.add(path, str(path.relative_to(root)), recursive=False)
    return target.getvalue()


def _show(output: Output, done: pb.ImportOrgResponse) -> None:
    """The tree with what became of each workspace."""
    if output.as_json:
        output.one(done)
    elif output.console.is_terminal:
        output.console.print(_tree(done.org, done.workspaces, {}))
    else:
        for each in done.workspaces:
            place = " / ".join(each.path)
            cells = (_action(each), each.id, place, each.status, _remark(each))
            output.result("\t".join(cells))


def _action(each: pb.ImportedWorkspace) -> str:
    """What became of a workspace, in a word."""
    return pb.ImportedWorkspace.Action.Name(each.action)


def _remark(each: pb.ImportedWorkspace) -> str:
    """What a person should know of a workspace, on one line."""
    changed = f"changed: {', '.join(each.changed)}" if each.changed else ""
    schedules = [f"schedule {one.name}: {one.reason}" for one in each.schedules_skipped]
    channels = [f"channel {one.type}: {one.reason}" for one in each.channels_skipped]
    parts = [each.error, changed, *each.notes, *schedules, *channels]
    return "; ".join(filter(None, parts)).replace("\n", " ").replace("\t", " ")


def _tree(title: str, workspaces: Iterable[pb.ImportedWorkspace], statuses: dict[str, str]) -> Tree:
    """The workspaces below their parents; statuses that are known by id win."""
    root = Tree(Text(visible(title)))
    branches: dict[tuple[str, ...], Tree] = {}
    for each in workspaces:
        path = tuple(each.path)
        state = statuses.get(each.id) or each.status or _action(each)
        label = Text.assemble(
            (f"{_action(each):<7}", _STYLES.get(_action(each), "dim")),
            visible(each.name),
            ("  " + state, _STYLES.get(state, "dim")),
        )
        if remark := _remark(each):
            label.append("  " + visible(remark), style="dim")
        branches[path] = branches.get(path[:-1], root).add(label)
    return root


def _tell(output: Output, done: pb.ImportOrgResponse) -> None:
    would = "would be " if done.dry_run else ""
    output.note(
        f"{done.created} {would}created, {done.skipped} there already, {done.failed} failed"
    )
    for each in done.missing_env:
        group = each.struct_value.fields["any_of"].list_value.values
        names = [each.string_value] if each.string_value else [one.string_value for one in group]
        output.warning(f"no value for {' or '.join(names)}")


async def _watch(output: Output, platform: Platform, done: pb.ImportOrgResponse) -> bool:
    """Show how the workspaces come up, until none is being started. Whether one failed."""
    statuses = {each.id: each.status for each in done.workspaces if each.id}
    names = {each.id: " / ".join(each.path) for each in done.workspaces if each.id}
    drawn = output.console.is_terminal and not output.as_json
    with Live(console=output.console, auto_refresh=False) as live:
        while True:
            if drawn:
                live.update(_tree(done.org, done.workspaces, statuses), refresh=True)
            waiting = [one for one, status in statuses.items() if status in _UNDER_WAY]
            if not waiting:
                return "failed" in statuses.values()
            await asyncio.sleep(_LOOK_SECONDS)
            for workspace_id in waiting:
                found = await platform.workspace(workspace_id, include_removed=True)
                status = workspace_pb2.Workspace.Status.Name(found.status)
                if status != statuses[workspace_id] and not drawn:
                    output.line(found, f"{status}\t{workspace_id}\t{names[workspace_id]}")
                statuses[workspace_id] = status
