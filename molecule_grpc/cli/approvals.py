"""`molecule-grpc approval`: what agents ask people for."""

from __future__ import annotations

from typing import Annotated

import typer

from molecule_grpc.cli.context import Cli, UsageError, asynchronous, find_workspace

app = typer.Typer(no_args_is_help=True, help="What agents ask people for before they act.")

_COLUMNS = ("id", "workspace_name", "status", "action", "expires_at", "decided_by")

Approval = Annotated[str, typer.Argument(metavar="APPROVAL", help="Id of the request.")]
By = Annotated[str, typer.Option("--by", help="Who decides; shown to the agent.")]


@app.command("ls")
@asynchronous
async def list_all(
    context: typer.Context,
    workspace: Annotated[
        str, typer.Option("--workspace", "-w", help="All requests of one workspace.")
    ] = "",
) -> None:
    """List what waits for a decision, or all that a workspace has asked for."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        if workspace:
            workspace_id = await find_workspace(platform, workspace)
            found = await platform.approvals.of_workspace(workspace_id)
        else:
            found = await platform.approvals.pending()
    cli.output.table(found, _COLUMNS, empty="no request")


@app.command("request")
@asynchronous
async def request(
    context: typer.Context,
    workspace: Annotated[str, typer.Argument(metavar="WORKSPACE", help="Who asks: id or name.")],
    action: Annotated[str, typer.Argument(help="What shall be done.")],
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    task: Annotated[str, typer.Option(help="The agent's name for the task at hand.")] = "",
    seconds: Annotated[
        int, typer.Option(min=0, max=604_800, help="Denied after so long; 0 for the default.")
    ] = 0,
) -> None:
    """Ask people for a decision, in the name of a workspace."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        made = await platform.approvals.ask(
            await find_workspace(platform, workspace),
            action,
            reason=reason,
            task_id=task,
            expires_in_seconds=seconds,
        )
    cli.output.one(made, ("approval_id", "status", "expires_at"))


@app.command("approve")
@asynchronous
async def approve(context: typer.Context, approval: Approval, by: By = "") -> None:
    """Let an agent act."""
    await _decide(context, approval, by, approved=True)


@app.command("deny")
@asynchronous
async def deny(context: typer.Context, approval: Approval, by: By = "") -> None:
    """Keep an agent from acting."""
    await _decide(context, approval, by, approved=False)


async def _decide(context: typer.Context, approval: str, by: str, *, approved: bool) -> None:
    cli = Cli.of(context)
    async with cli.platform() as platform:
        pending = await platform.approvals.pending()
        asked = next((each for each in pending if each.id == approval), None)
        if asked is None:
            raise UsageError(f"no pending request has the id {approval!r}")
        await platform.approvals.decide(
            asked.workspace_id, approval, approved=approved, decided_by=by
        )
    status = "approved" if approved else "denied"
    cli.output.done(f"{status} {asked.action!r}", approval_id=approval, status=status)
