"""`molecule-grpc delegate`, `delegation` and `send`: tasks and messages between workspaces."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from molecule_grpc.cli.context import Cli, asynchronous, find_workspace
from molecule_grpc.cli.failures import FAILED
from molecule_grpc.client.delegation import Delegation

app = typer.Typer(no_args_is_help=True, help="Delegations: work that was handed over.")

_COLUMNS = ("delegation_id", "direction", "status", "source_id", "target_id", "summary")
_LEDGER_COLUMNS = ("delegation_id", "caller_id", "callee_id", "status", "task_preview")
_MAX_WAIT = 300  # the longest `wait_seconds` of one Delegate call

Source = Annotated[str, typer.Argument(metavar="SOURCE", help="Id or name of who hands over.")]
Target = Annotated[str, typer.Argument(metavar="TARGET", help="Id or name of who does it.")]


@asynchronous
async def delegate(
    context: typer.Context,
    source: Source,
    target: Target,
    task: Annotated[str, typer.Argument(help="What to do; - reads it from stdin.")],
    wait: Annotated[int, typer.Option(help="Wait up to so many seconds for the result.")] = 0,
    key: Annotated[
        str | None, typer.Option(help="The same key and task give the same delegation for 24 h.")
    ] = None,
    deadline: Annotated[int, typer.Option(help="Seconds until it fails; 0 means 6 h.")] = 0,
) -> None:
    """Hand a task from one workspace to another."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        source_id = await find_workspace(platform, source)
        target_id = await find_workspace(platform, target)
    async with cli.agent(source_id) as agent:
        with cli.output.waiting(f"waiting for {target} …"):
            made = await agent.delegate(
                target_id,
                _text(task),
                idempotency_key=key,
                wait=min(wait, _MAX_WAIT),
                deadline=deadline or None,
            )
            if wait > _MAX_WAIT and not made.final:
                made = await agent.result(made.id, wait - _MAX_WAIT)
    _show(cli, made)


@asynchronous
async def send(
    context: typer.Context,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="Id or name.")],
    text: Annotated[str, typer.Argument(help="What to say; - reads it from stdin.")],
    source: Annotated[
        str, typer.Option("--from", help="Id or name of who says it; the human by default.")
    ] = "",
) -> None:
    """Send a message to a workspace."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        target_id = await find_workspace(platform, target)
        source_id = await find_workspace(platform, source) if source else ""
    async with cli.agent(source_id) as agent:
        cli.output.one(await agent.send(target_id, _text(text)))


@app.command("ls")
@asynchronous
async def list_all(
    context: typer.Context,
    workspace: Annotated[
        str | None, typer.Argument(help="Id or name; without, the ledger of all.")
    ] = None,
    status: Annotated[str, typer.Option(help="Only this status.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most rows.")] = 100,
) -> None:
    """List delegations, newest first. The ledger of all shows those in flight by default."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        if workspace is None:
            rows = await platform.ledger(status, limit)
            cli.output.table(rows, _LEDGER_COLUMNS, empty="none")
            return
        workspace_id = await find_workspace(platform, workspace)
    async with cli.agent(workspace_id) as agent:
        found = []
        async for each in agent.delegations(status=status):
            found.append(each)
            if len(found) == limit:
                break
    cli.output.table(found, _COLUMNS, empty="none")


@app.command("show")
@asynchronous
async def show(
    context: typer.Context,
    workspace: Annotated[str, typer.Argument(help="Id or name of its source or target.")],
    delegation_id: Annotated[str, typer.Argument(help="Id of the delegation.")],
) -> None:
    """Show a delegation with the whole result."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
    async with cli.agent(workspace_id) as agent:
        cli.output.one(await agent.get_delegation(delegation_id))


def _show(cli: Cli, made: Delegation) -> None:
    facts = asdict(made) | {"delegation_id": made.id}
    del facts["id"]
    if cli.output.as_json or made.status != "completed":
        cli.output.one(facts, ("delegation_id", "target_id", "status", "error", "failure_reason"))
    else:
        cli.output.result(made.text)
    if made.final and made.status != "completed":
        raise typer.Exit(FAILED)


def _text(argument: str) -> str:
    return sys.stdin.read() if argument == "-" else argument
