"""`molecule-grpc workspace`: the verbs that start and stop workspaces."""

from __future__ import annotations

from typing import Annotated

import typer
from moleculeai.workspace.v1 import workspace_pb2

from molecule_grpc.cli.context import Cli, UsageError, asynchronous, find_workspace

Name = Annotated[str, typer.Argument(metavar="WORKSPACE", help="Id or name.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to those of workspaces."""
    for command in (restart, pause, resume, hibernate, wake, collapse):
        app.command(command.__name__)(asynchronous(command))


async def restart(
    context: typer.Context,
    workspace: Name,
    reset: Annotated[bool, typer.Option("--reset", help="Forget the agent's sessions.")] = False,
    template: Annotated[str, typer.Option(help="Configure it by this template.")] = "",
    apply_template: Annotated[
        bool, typer.Option("--apply-template", help="Let the template replace edits.")
    ] = False,
) -> None:
    """Stop a workspace and start it again."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        answer = await platform.restart_workspace(
            workspace_id, reset=reset, template=template, apply_template=apply_template
        )
    cli.output.done(f"restarting {workspace}", id=workspace_id, status=_status(answer.status))


async def pause(context: typer.Context, workspace: Name) -> None:
    """Suspend a workspace and everything below it."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        answer = await platform.pause_workspace(workspace_id)
    cli.output.done(
        f"paused {workspace}{_below(answer.paused_count)}",
        id=workspace_id,
        status=_status(answer.status),
        paused_count=answer.paused_count,
    )


async def resume(context: typer.Context, workspace: Name) -> None:
    """End the pause of a workspace and of everything below it."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        answer = await platform.resume_workspace(workspace_id)
    cli.output.done(
        f"resumed {workspace}{_below(answer.resumed_count)}",
        id=workspace_id,
        status=_status(answer.status),
        resumed_count=answer.resumed_count,
    )


async def hibernate(
    context: typer.Context,
    workspace: Name,
    force: Annotated[bool, typer.Option("--force", help="Also when it has tasks.")] = False,
) -> None:
    """Stop a workspace until there is something for it to do."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        answer = await platform.hibernate_workspace(workspace_id, force=force)
    status = _status(answer.status)
    cli.output.done(f"{workspace} is {status}", id=workspace_id, status=status)


async def wake(context: typer.Context, workspace: Name) -> None:
    """Start a hibernated workspace."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        answer = await platform.wake_workspace(workspace_id)
    cli.output.done(f"waking {workspace}", id=workspace_id, status=_status(answer.status))


async def collapse(
    context: typer.Context,
    workspace: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove everything below a workspace."""
    cli = Cli.of(context)
    if not yes:
        raise UsageError("this removes everything below the workspace: confirm with --yes")
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        answer = await platform.collapse_workspace(workspace_id)
    cli.output.done(
        f"removed {answer.removed_count} below {workspace}",
        id=workspace_id,
        status=answer.status,
        removed=list(answer.removed),
        removed_count=answer.removed_count,
    )


def _below(count: int) -> str:
    return f" and {count - 1} below it" if count > 1 else ""


def _status(value: workspace_pb2.Workspace.Status.ValueType) -> str:
    return workspace_pb2.Workspace.Status.Name(value)
