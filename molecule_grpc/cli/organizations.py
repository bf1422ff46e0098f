"""`molecule-grpc org`: adds and lists organisations."""

from __future__ import annotations

from typing import Annotated

import typer

from molecule_grpc.cli import org_import
from molecule_grpc.cli.context import Cli, asynchronous

app = typer.Typer(no_args_is_help=True, help="Organisations: nothing crosses between them.")

org_import.add_to(app)

_COLUMNS = ("id", "slug", "name", "created_at")


@app.command("create")
@asynchronous
async def create(
    context: typer.Context,
    slug: Annotated[str, typer.Argument(help="Lower-case letters, digits and dashes.")],
    name: Annotated[str, typer.Option(help="For people; the slug by default.")] = "",
) -> None:
    """Add an organisation."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        cli.output.one(await platform.create_organization(slug, name), _COLUMNS)


@app.command("ls")
@asynchronous
async def list_all(context: typer.Context) -> None:
    """List every organisation, oldest first."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        cli.output.table(await platform.organizations(), _COLUMNS)
