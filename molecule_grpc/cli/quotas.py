"""`molecule-grpc quota`: use and limits of an organisation or a workspace."""

from __future__ import annotations

from typing import Annotated

import typer

from molecule_grpc.cli.context import Cli, asynchronous, find_workspace

_COLUMNS = ("name", "of", "used", "limit", "at_once")


@asynchronous
async def quota(
    context: typer.Context,
    workspace: Annotated[str, typer.Argument(help="Name or id; none for the organisation.")] = "",
    org: Annotated[str, typer.Option(help="Id of the organisation; operators only.")] = "",
) -> None:
    """Show each limit and how much of it is used. A limit of 0 is none."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        found = await find_workspace(platform, workspace) if workspace else ""
        report = await platform.quota(organization_id=org, workspace_id=found)
    cli.output.table(report.quotas, _COLUMNS)
