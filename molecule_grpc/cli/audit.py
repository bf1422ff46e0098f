"""`molecule-grpc audit`: who did what."""

from __future__ import annotations

from typing import Annotated

import typer

from molecule_grpc.cli.context import Cli, asynchronous, find_workspace

app = typer.Typer(no_args_is_help=True, help="The audit log: acts of administrators, refusals.")

_COLUMNS = (
    "at", "party", "token_prefix", "rpc", "workspace_id", "subject", "outcome", "reason", "address",
    "count", "request_id",
)  # fmt: skip


@app.command("ls")
@asynchronous
async def list_entries(
    context: typer.Context,
    workspace: Annotated[str, typer.Option(help="Only what concerns this one; id or name.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Most entries.")] = 100,
) -> None:
    """List who did what, or was refused what, newest first."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        wanted = await find_workspace(platform, workspace) if workspace else ""
        entries = await platform.audit_log(wanted, limit)
    cli.output.table(entries, _COLUMNS, empty="no entry")
