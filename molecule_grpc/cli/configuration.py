"""`molecule-grpc workspace`: what workspaces are configured with."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from molecule_grpc.cli.context import Cli, UsageError, asynchronous, find_workspace

Name = Annotated[str, typer.Argument(metavar="WORKSPACE", help="Id or name.")]

_AGENT_COLUMNS = ("agent_id", "workspace_id", "model", "created_at")


def add_to(app: typer.Typer) -> None:
    """Add the commands to those of workspaces."""
    for command in (config, model, budget, usage, agent):
        app.command(command.__name__)(asynchronous(command))


async def config(
    context: typer.Context,
    workspace: Name,
    values: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=JSON]...", help="Keys to set.")
    ] = None,
) -> None:
    """Show the settings of a workspace, or set some: each value is JSON, or else a text."""
    cli = Cli.of(context)
    changes = dict(_setting(each) for each in values or ())
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        if changes:
            await platform.configuration.set_settings(workspace_id, changes)
        found = await platform.configuration.settings(workspace_id)
    if cli.output.as_json:
        cli.output.one(found)
    else:
        cli.output.result(json.dumps(found, indent=2, ensure_ascii=False))


async def model(
    context: typer.Context,
    workspace: Name,
    chosen: Annotated[str, typer.Argument(metavar="[MODEL]", help="Model to choose.")] = "",
    clear: Annotated[bool, typer.Option("--clear", help="Withdraw the choice.")] = False,
) -> None:
    """Show which model an agent is started with, or choose one; a running agent is restarted."""
    if chosen and clear:
        raise UsageError("give a model or --clear, not both")
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        if chosen or clear:
            await platform.configuration.set_model(workspace_id, chosen)
        cli.output.one(await platform.configuration.model(workspace_id))


async def budget(
    context: typer.Context,
    workspace: Name,
    limit: Annotated[
        float | None, typer.Option(min=0, help="US cents a month; rounded to whole cents.")
    ] = None,
    no_limit: Annotated[bool, typer.Option("--no-limit", help="Lift the limit.")] = False,
) -> None:
    """Show what a workspace may spend in a month and has spent, or change its limit."""
    if limit is not None and no_limit:
        raise UsageError("give --limit or --no-limit, not both")
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        if limit is not None or no_limit:
            cli.output.one(await platform.configuration.set_budget(workspace_id, limit))
        else:
            cli.output.one(await platform.configuration.budget(workspace_id))


async def usage(context: typer.Context, workspace: Name) -> None:
    """Show the tokens of a workspace in the present day of UTC, and what they may have cost."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        cli.output.one(await platform.configuration.usage(workspace_id))


async def agent(
    context: typer.Context,
    workspace: Name,
    assign: Annotated[str, typer.Option(metavar="MODEL", help="Assign an agent.")] = "",
    replace: Annotated[str, typer.Option(metavar="MODEL", help="Assign another one.")] = "",
    remove: Annotated[bool, typer.Option("--remove", help="End the assignment.")] = False,
    move_to: Annotated[
        str, typer.Option(metavar="WORKSPACE", help="Assign it to another workspace.")
    ] = "",
) -> None:
    """Show which agent is assigned to a workspace, or change that."""
    if sum(map(bool, (assign, replace, remove, move_to))) > 1:
        raise UsageError("give one of --assign, --replace, --remove and --move-to")
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        calls = platform.configuration
        if remove:
            done = await calls.remove_agent(workspace_id)
            cli.output.done(f"removed {done.agent_id}", status=done.status, agent_id=done.agent_id)
            return
        if assign:
            shown = await calls.assign_agent(workspace_id, assign)
        elif replace:
            shown = await calls.replace_agent(workspace_id, replace)
        elif move_to:
            target = await find_workspace(platform, move_to)
            shown = await calls.move_agent(workspace_id, target)
        else:
            shown = await calls.agent(workspace_id)
        cli.output.one(shown, _AGENT_COLUMNS)


def _setting(text: str) -> tuple[str, Any]:
    """A key and its value, of `KEY=JSON`.

    Raises:
        UsageError: there is no `=`.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"{text}: give KEY=JSON")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value
