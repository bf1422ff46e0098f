"""`molecule-grpc memory grant`, `quarantine`, `namespace`, `stats`: what administrators may do."""

from __future__ import annotations

from typing import Annotated

import typer

from molecule_grpc.cli.context import Cli, asynchronous, find_workspace
from molecule_grpc.cli.workspaces import Name

_GRANT_COLUMNS = ("namespace", "workspace_id", "can_write", "granted_by", "created_at")
_QUARANTINE_COLUMNS = ("workspace_id", "reason", "created_by", "created_at")
_NAMESPACE_COLUMNS = ("namespace", "memories", "bytes", "organization_id")
_COUNTS = (
    "namespaces", "memories", "bytes", "embed_pending", "embed_failed", "quarantined_authors",
)  # fmt: skip

grants = typer.Typer(no_args_is_help=True, help="Rights beside those of the tree.")
quarantine = typer.Typer(no_args_is_help=True, help="Authors whose texts nobody reads.")
namespace = typer.Typer(no_args_is_help=True, help="Namespaces as a whole.")

Namespace = Annotated[str, typer.Argument(help="Such as custom:release-notes.")]
OrganizationId = Annotated[
    str, typer.Option("--organization", help="UUID; the default one if not given.")
]


@grants.command("ls")
@asynchronous
async def list_grants(
    context: typer.Context,
    of: Annotated[str, typer.Option("--namespace", "-n", help="Only of this one.")] = "",
    workspace: Annotated[str, typer.Option(help="Only of this one; id or name.")] = "",
) -> None:
    """List grants, by namespace and workspace."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        wanted = await find_workspace(platform, workspace) if workspace else ""
        rows = await platform.memories.grants(of, wanted)
    cli.output.table(rows, _GRANT_COLUMNS, empty="no grant")


@grants.command("set")
@asynchronous
async def set_grant(
    context: typer.Context,
    workspace: Name,
    of: Namespace,
    write: Annotated[bool, typer.Option("--write", help="It may write there, too.")] = False,
) -> None:
    """Let a workspace read a namespace of its organisation."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        cli.output.one(await platform.memories.grant(workspace_id, of, can_write=write))


@grants.command("rm")
@asynchronous
async def remove_grant(context: typer.Context, workspace: Name, of: Namespace) -> None:
    """Take a grant back; harmless where there is none."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        await platform.memories.revoke_grant(workspace_id, of)
    cli.output.done(f"{workspace} has no grant of {of}", namespace=of, workspace_id=workspace_id)


@quarantine.command("ls")
@asynchronous
async def list_quarantines(context: typer.Context) -> None:
    """List whose texts are hidden, newest first."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        rows = await platform.memories.quarantines()
    cli.output.table(rows, _QUARANTINE_COLUMNS, empty="nobody is in quarantine")


@quarantine.command("set")
@asynchronous
async def set_quarantine(
    context: typer.Context,
    workspace: Name,
    reason: Annotated[str, typer.Option(help="For people.")] = "",
) -> None:
    """Hide everything that a workspace wrote, on every path, until it is undone."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        cli.output.one(await platform.memories.quarantine(workspace_id, reason))


@quarantine.command("rm")
@asynchronous
async def remove_quarantine(context: typer.Context, workspace: Name) -> None:
    """Show a workspace's texts again; harmless where they are not hidden."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        await platform.memories.end_quarantine(workspace_id)
    cli.output.done(f"texts of {workspace} are shown", workspace_id=workspace_id)


@namespace.command("move")
@asynchronous
async def move(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="The namespace to empty.")],
    target: Annotated[str, typer.Argument(help="The namespace to fill; may hold memories.")],
    organization: OrganizationId = "",
) -> None:
    """Move all memories of a namespace into another; into a new name, this renames it."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        moved = await platform.memories.move_namespace(source, target, organization)
    cli.output.done(f"{moved} memories moved to {target}", moved=moved)


@namespace.command("rm")
@asynchronous
async def remove(
    context: typer.Context, name: Namespace, organization: OrganizationId = ""
) -> None:
    """Delete a namespace for good, with all that it holds."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        removed = await platform.memories.delete_namespace(name, organization)
    cli.output.done(f"{name} is deleted, with {removed} memories", removed=removed)


@asynchronous
async def stats(
    context: typer.Context,
    organization: Annotated[str, typer.Option(help="UUID; all if not given.")] = "",
) -> None:
    """Count what is stored, and name the hundred largest namespaces."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        found = await platform.memories.stats(organization)
    if cli.output.as_json:
        cli.output.one(found)
        return
    cli.output.one(found, _COUNTS)
    cli.output.table(found.largest, _NAMESPACE_COLUMNS, empty="no namespace")


def add_commands(app: typer.Typer) -> None:
    """Put the commands of this page into `molecule-grpc memory`."""
    app.add_typer(grants, name="grant")
    app.add_typer(quarantine, name="quarantine")
    app.add_typer(namespace, name="namespace")
    app.command()(stats)
