"""`molecule-grpc inbox`: shows and acks the items of a workspace."""

from __future__ import annotations

from typing import Annotated

import typer
from moleculeai.delegation.v1 import inbox_pb2

from molecule_grpc.cli.context import Cli, asynchronous, find_workspace
from molecule_grpc.cli.output import Output
from molecule_grpc.cli.workspaces import Name
from molecule_grpc.client.agent import default_consumer
from molecule_grpc.client.watch import watch_inbox

app = typer.Typer(no_args_is_help=True, help="Inboxes: what agents are to act on.")

_COLUMNS = ("seq", "delivery", "method", "source_name", "delegation_id", "text")


@app.command("tail")
@asynchronous
async def tail(
    context: typer.Context,
    workspace: Name,
    ack: Annotated[
        bool, typer.Option("--ack", help="Hold the inbox, and say of each item that it is done.")
    ] = False,
    takeover: Annotated[
        bool, typer.Option("--takeover", help="With --ack: take it from another consumer.")
    ] = False,
    from_now: Annotated[bool, typer.Option("--from-now", help="Only what comes now.")] = False,
) -> None:
    """Follow an inbox, from its first undone item, until Ctrl-C."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        if not ack:
            start = inbox_pb2.StartPosition(from_now=from_now)
            async for seen in watch_inbox(platform.connection, workspace_id, start):
                _print(cli.output, seen)
    async with cli.agent(workspace_id) as agent:
        consumer = f"tail-{default_consumer()}"
        async for item in agent.inbox(
            max_in_flight=1, consumer_id=consumer, takeover=takeover, heartbeat_every=None
        ):
            _print(cli.output, item.frame)


@app.command("pull")
@asynchronous
async def pull(
    context: typer.Context,
    workspace: Name,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Most items.")] = 20,
    wait: Annotated[int, typer.Option(min=0, max=55, help="Seconds to wait for the first.")] = 0,
    ack: Annotated[bool, typer.Option("--ack", help="Say that they are done.")] = False,
) -> None:
    """Show undone items, oldest first."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
    async with cli.agent(workspace_id) as agent:
        answer = await agent.pull(limit=limit, wait=wait)
        cli.output.table(answer.items, _COLUMNS, empty="nothing to do")
        if ack and answer.items:
            seqs = [item.seq for item in answer.items]
            await agent.ack(seqs, generation=answer.generation)


def _print(output: Output, item: inbox_pb2.InboxItem) -> None:
    sender = item.source_name or item.source_id or "human"
    repeat = f" (delivery {item.delivery})" if item.delivery > 1 else ""
    output.line(item, f"{item.seq}\t{item.method}\t{sender}{repeat}\t{' '.join(item.text.split())}")
