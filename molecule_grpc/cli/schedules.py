"""`molecule-grpc schedule`: prompts that workspaces are given again and again."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer
from moleculeai.workspace.v1 import schedule_pb2

from molecule_grpc.cli.context import (
    Cli,
    UsageError,
    asynchronous,
    find_workspace,
    text_or_stdin,
)
from molecule_grpc.client.platform import Platform

app = typer.Typer(no_args_is_help=True, help="Prompts that workspaces are given again and again.")

_COLUMNS = ("id", "name", "cron_expr", "timezone", "enabled", "next_run_at", "last_status")
_RUN_COLUMNS = ("timestamp", "status", "trigger", "duration_ms", "delegation_id", "error_detail")
_HEALTH_COLUMNS = ("workspace_name", "schedule_name", "status", "last_run_at", "expected_next_run")

Workspace = Annotated[str, typer.Argument(metavar="WORKSPACE", help="Id or name.")]
Schedule = Annotated[str, typer.Argument(metavar="SCHEDULE", help="Id or name.")]


@app.command("create")
@asynchronous
async def create(
    context: typer.Context,
    workspace: Workspace,
    cron: Annotated[str, typer.Argument(help="Five fields, such as '0 9 * * MON-FRI'.")],
    prompt: Annotated[str, typer.Argument(help="What the agent is given; - reads stdin.")],
    name: Annotated[str, typer.Option(help="Unique in the workspace.")] = "",
    timezone: Annotated[str, typer.Option(help="Such as Europe/Berlin.")] = "UTC",
    disabled: Annotated[bool, typer.Option("--disabled", help="Do not fire yet.")] = False,
) -> None:
    """Give a workspace a prompt at the times of a cron expression."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        made = await platform.schedules.create(
            await find_workspace(platform, workspace),
            cron,
            text_or_stdin(prompt),
            name=name,
            timezone=timezone,
            enabled=not disabled,
        )
    cli.output.one(made, ("id", "next_run_at"))


@app.command("ls")
@asynchronous
async def list_all(context: typer.Context, workspace: Workspace) -> None:
    """List the schedules of a workspace."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        found = await platform.schedules.of_workspace(await find_workspace(platform, workspace))
    cli.output.table(found, _COLUMNS, empty="no schedule")


@app.command("show")
@asynchronous
async def show(context: typer.Context, workspace: Workspace, schedule: Schedule) -> None:
    """Show a schedule with its prompt."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        found = await _find(platform, await find_workspace(platform, workspace), schedule)
    cli.output.one(found)


@app.command("rm")
@asynchronous
async def delete(context: typer.Context, workspace: Workspace, schedule: Schedule) -> None:
    """Delete a schedule with its history."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        found = await _find(platform, workspace_id, schedule)
        await platform.schedules.delete(workspace_id, found.id)
    cli.output.done(f"deleted {schedule}", id=found.id, status="deleted")


@app.command("run")
@asynchronous
async def run(context: typer.Context, workspace: Workspace, schedule: Schedule) -> None:
    """Hand the prompt over now, as one more fire."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        found = await _find(platform, workspace_id, schedule)
        delegation_id = await platform.schedules.run(workspace_id, found.id)
    cli.output.one({"status": "fired", "delegation_id": delegation_id})


@app.command("history")
@asynchronous
async def history(
    context: typer.Context,
    workspace: Workspace,
    schedule: Schedule,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 20,
) -> None:
    """List what became of the last fires, newest first."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        found = await _find(platform, workspace_id, schedule)
        runs = await platform.schedules.history(workspace_id, found.id, limit)
    cli.output.table(runs, _RUN_COLUMNS, empty="it has not fired yet")


@app.command("enable")
@asynchronous
async def enable(context: typer.Context, workspace: Workspace, schedule: Schedule) -> None:
    """Let a schedule fire, from its next time on."""
    await _switch(context, workspace, schedule, enabled=True)


@app.command("disable")
@asynchronous
async def disable(context: typer.Context, workspace: Workspace, schedule: Schedule) -> None:
    """Keep a schedule from firing."""
    await _switch(context, workspace, schedule, enabled=False)


@app.command("health")
@asynchronous
async def health(context: typer.Context) -> None:
    """Tell of all schedules whether they fire as often as they should."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        found = await platform.schedules.health()
    cli.output.table(found, _HEALTH_COLUMNS, empty="no schedule")


async def _switch(context: typer.Context, workspace: str, schedule: str, *, enabled: bool) -> None:
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        found = await _find(platform, workspace_id, schedule)
        await platform.schedules.update(workspace_id, found.id, enabled=enabled)
    word = "enabled" if enabled else "disabled"
    cli.output.done(f"{word} {schedule}", id=found.id, enabled=enabled)


async def _find(platform: Platform, workspace_id: str, name: str) -> schedule_pb2.Schedule:
    """The schedule of a workspace with this id or name.

    Raises:
        UsageError: there is none.
    """
    try:
        wanted = str(UUID(name))
    except ValueError:
        wanted = ""
    for each in await platform.schedules.of_workspace(workspace_id):
        if each.id == wanted or (not wanted and each.name == name):
            return each
    raise UsageError(f"the workspace has no schedule {name!r}")
