"""`molecule-grpc workspace`: adds, changes, removes and shows workspaces."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from moleculeai.workspace.v1 import workspace_pb2
from rich.tree import Tree

from molecule_grpc.cli import access, configuration, egress, lifecycle
from molecule_grpc.cli.context import Cli, UsageError, asynchronous, find_workspace
from molecule_grpc.cli.output import visible

app = typer.Typer(no_args_is_help=True, help="Workspaces: the places in the tree.")

lifecycle.add_to(app)
access.add_to(app)
configuration.add_to(app)
egress.add_to(app)

Name = Annotated[str, typer.Argument(metavar="WORKSPACE", help="Id or name.")]

_COLUMNS = ("id", "name", "status", "runtime", "delivery_mode", "role")
_OPERATION_COLUMNS = (
    "id", "kind", "state", "backend", "source", "attempt", "created_at", "ended_at", "reason",
    "message",
)  # fmt: skip
_STATUS_COLOURS = {"online": "green", "degraded": "yellow", "offline": "red", "failed": "red"}


@app.command("create")
@asynchronous
async def create(  # noqa: PLR0917 - typer calls it by name
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Unique among its siblings.")],
    role: Annotated[str, typer.Option(help="What the agent does.")] = "",
    parent: Annotated[str, typer.Option(help="Id or name of the parent.")] = "",
    agent_url: Annotated[str, typer.Option(help="Where the agent listens, if it does.")] = "",
    org: Annotated[str, typer.Option(help="Id of the organisation; operators only.")] = "",
    runtime: Annotated[str, typer.Option(help="Kind of agent.")] = "external",
    hibernate_after: Annotated[
        int, typer.Option(min=0, help="Minutes without work until it hibernates; 0 for never.")
    ] = 0,
    hosts: Annotated[
        str,
        typer.Option(
            "--egress",
            metavar="open|none|HOSTS",
            help="Hosts that it may reach, with commas between them: host, host:port, *.host.",
        ),
    ] = "open",
) -> None:
    """Add a workspace. Its token is shown once."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        created = await platform.create_workspace(
            name,
            role=role,
            parent_id=await find_workspace(platform, parent) if parent else "",
            url=agent_url,
            organization_id=org,
            runtime=runtime,
            hibernation_idle_minutes=hibernate_after,
            egress=egress.value_of(hosts),
        )
    if cli.output.as_json:
        cli.output.one(created)
        return
    shown: dict[str, Any] = {
        "id": created.id,
        "status": workspace_pb2.Workspace.Status.Name(created.status),
    }
    if token := created.connection.auth_token:
        shown |= {"token": f"{token}   (shown once)", "platform": created.connection.platform_url}
    cli.output.one(shown)


@app.command("ls")
@asynchronous
async def list_all(context: typer.Context) -> None:
    """List live workspaces, oldest first."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        rows = [each async for each in platform.workspaces()]
    cli.output.table(rows, _COLUMNS, empty="no workspace yet: `molecule-grpc workspace create`")


@app.command("show")
@asynchronous
async def show(
    context: typer.Context,
    workspace: Name,
    removed: Annotated[bool, typer.Option("--removed", help="Also when it was removed.")] = False,
) -> None:
    """Show everything about one workspace."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        cli.output.one(await platform.workspace(workspace_id, include_removed=removed))


@app.command("update")
@asynchronous
async def update(
    context: typer.Context,
    workspace: Name,
    name: Annotated[str | None, typer.Option(help="New name.")] = None,
    role: Annotated[str | None, typer.Option(help="New role; empty clears it.")] = None,
    parent: Annotated[str | None, typer.Option(help="New parent; empty makes it a root.")] = None,
    hibernate_after: Annotated[
        int | None,
        typer.Option(min=0, help="Minutes without work until it hibernates; 0 for never."),
    ] = None,
) -> None:
    """Change what is given, and nothing else."""
    given = {"name": name, "role": role, "hibernation_idle_minutes": hibernate_after}
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if not changes and parent is None:
        raise UsageError("nothing to change: give --name, --role, --parent or --hibernate-after")
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        parent_id = await find_workspace(platform, parent) if parent else parent
        await platform.update_workspace(workspace_id, parent_id=parent_id, **changes)
    cli.output.done(f"updated {workspace}", id=workspace_id, status="updated")


@app.command("rm")
@asynchronous
async def remove(
    context: typer.Context,
    workspace: Name,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Also everything below it.")
    ] = False,
    purge: Annotated[bool, typer.Option("--purge", help="Delete the rows; for good.")] = False,
) -> None:
    """Remove a workspace. Its agent is told to stop."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        answer = await platform.remove_workspace(workspace_id, confirm=recursive, purge=purge)
    if answer.status == "confirmation_required":
        names = ", ".join(child.name for child in answer.children)
        raise UsageError(f"it has children ({names}): --recursive removes them too")
    below = f" and {answer.cascade_deleted} below it" if answer.cascade_deleted else ""
    cli.output.done(
        f"{answer.status} {workspace}{below}",
        id=workspace_id,
        status=answer.status,
        cascade_deleted=answer.cascade_deleted,
    )


@app.command("peers")
@asynchronous
async def peers(
    context: typer.Context,
    workspace: Name,
    q: Annotated[str, typer.Option(help="Part of the name or role.")] = "",
) -> None:
    """List whom a workspace may talk to: siblings, children, parent."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        rows = await platform.peers(await find_workspace(platform, workspace), q)
    cli.output.table(rows, ("id", "name", "status", "role"), empty="nobody yet")


@app.command("operations")
@asynchronous
async def operations(
    context: typer.Context,
    workspace: Name,
    limit: Annotated[int, typer.Option(min=1, help="Most operations to show.")] = 20,
) -> None:
    """List the starts and stops of a workspace, newest first."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        rows = await platform.operations(workspace_id, most=limit)
    cli.output.table(rows, _OPERATION_COLUMNS, empty="never started or stopped")


@app.command("tree")
@asynchronous
async def tree(context: typer.Context) -> None:
    """Draw the tree."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        rows = [each async for each in platform.workspaces()]
    if cli.output.as_json:
        cli.output.table(rows, _COLUMNS)
        return
    root = Tree("", hide_root=True)
    nodes: dict[str, Tree] = {}
    waiting = rows
    while waiting:
        placed = [each for each in waiting if not each.parent_id or each.parent_id in nodes]
        for each in (
            placed or waiting
        ):  # a workspace whose parent this token does not see stands at the root
            nodes[each.id] = nodes.get(each.parent_id, root).add(_label(each))
        waiting = [each for each in waiting if each.id not in nodes]
    cli.output.console.print(root)


def _label(workspace: workspace_pb2.Workspace) -> str:
    status = workspace_pb2.Workspace.Status.Name(workspace.status)
    colour = _STATUS_COLOURS.get(status, "dim")
    name = visible(workspace.name).replace("[", "\\[")
    return f"{name} [{colour}]{status}[/] [dim]{workspace.id}[/]"
