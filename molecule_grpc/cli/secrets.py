"""`molecule-grpc secret`: what agents are started with."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from molecule_grpc.cli.context import Cli, UsageError, asynchronous, find_workspace

app = typer.Typer(no_args_is_help=True, help="Secrets that agents are started with.")

_COLUMNS = ("key", "scope", "updated_at")

Key = Annotated[str, typer.Argument(metavar="KEY", help="Name of an environment variable.")]
Workspace = Annotated[
    str, typer.Option("--workspace", "-w", help="Name or id; none for what all inherit.")
]
Org = Annotated[
    str, typer.Option(help="Id of an organisation; operators without one mean the installation.")
]


@app.command("ls")
@asynchronous
async def list_all(context: typer.Context, workspace: Workspace = "", org: Org = "") -> None:
    """List names, never values: what a workspace is started with, or what all inherit."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        if workspace:
            rows = await platform.secrets.of_workspace(await find_workspace(platform, workspace))
        else:
            rows = await platform.secrets.shared(org)
    cli.output.table(rows, _COLUMNS, empty="no secret")


@app.command("set")
@asynchronous
async def set_one(
    context: typer.Context, key: Key, workspace: Workspace = "", org: Org = ""
) -> None:
    """Set a secret. The value is asked for, or read from stdin: other users see arguments."""
    cli = Cli.of(context)
    value = _value()
    async with cli.platform() as platform:
        if workspace:
            await platform.secrets.set(await find_workspace(platform, workspace), key, value)
        else:
            await platform.secrets.set_shared(key, value, org)
    cli.output.done(f"saved {key}", status="saved", key=key)


@app.command("rm")
@asynchronous
async def delete(
    context: typer.Context, key: Key, workspace: Workspace = "", org: Org = ""
) -> None:
    """Delete a secret; a workspace's inherited secret of the same name holds again."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        if workspace:
            await platform.secrets.delete(await find_workspace(platform, workspace), key)
        else:
            await platform.secrets.delete_shared(key, org)
    cli.output.done(f"deleted {key}", status="deleted", key=key)


@app.command("reencrypt")
@asynchronous
async def reencrypt(context: typer.Context) -> None:
    """Seal all secrets with the current key, so that SECRETS_PREVIOUS_KEYS can be emptied."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        cli.output.one(await platform.secrets.reencrypt(), ("reencrypted", "unreadable"))


def _value() -> str:
    """The secret, without the end of its last line.

    Raises:
        UsageError: nothing was given.
    """
    if sys.stdin.isatty():
        value = str(typer.prompt("Value", hide_input=True))
    else:
        value = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    if not value:
        raise UsageError("the value is empty")
    return value
