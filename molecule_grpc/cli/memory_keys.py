"""`molecule-grpc memory key`: keys and values of a workspace, stored beside memories."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from google.protobuf import json_format

from molecule_grpc.cli.context import Cli, UsageError, asynchronous, text_or_stdin
from molecule_grpc.cli.workspaces import Name

app = typer.Typer(no_args_is_help=True, help="Keys and values of a workspace.")

_COLUMNS = ("key", "version", "value", "expires_at")

Key = Annotated[str, typer.Argument(help="1 to 512 characters.")]
IfVersion = Annotated[
    int | None,
    typer.Option(min=0, help="Only if the key has this version; 0: only if it is absent."),
]


@app.command("ls")
@asynchronous
async def list_all(context: typer.Context, workspace: Name) -> None:
    """List every key with its value, in order."""
    cli = Cli.of(context)
    async with cli.acting(workspace) as agent:
        rows = [entry async for entry in agent.memory.values()]
    cli.output.table(rows, _COLUMNS, empty="no key")


@app.command("get")
@asynchronous
async def get(context: typer.Context, workspace: Name, key: Key) -> None:
    """Print the value of a key as JSON; with --json also its version and expiry."""
    cli = Cli.of(context)
    async with cli.acting(workspace) as agent:
        entry = await agent.memory.value(key)
    if cli.output.as_json:
        cli.output.one(entry)
        return
    value = _plain(json_format.MessageToDict(entry.value))
    cli.output.result(entry.value_json or json.dumps(value, ensure_ascii=False))


@app.command("set")
@asynchronous
async def set_(
    context: typer.Context,
    workspace: Name,
    key: Key,
    value: Annotated[str, typer.Argument(help="JSON; - reads it from stdin.")],
    text: Annotated[bool, typer.Option("--text", help="VALUE is a text, not JSON.")] = False,
    ttl: Annotated[int, typer.Option(min=0, help="Seconds until it is absent; 0: never.")] = 0,
    if_version: IfVersion = None,
) -> None:
    """Write a key."""
    cli = Cli.of(context)
    given = text_or_stdin(value)
    try:
        async with cli.acting(workspace) as agent:
            version = await agent.memory.set_value(
                key,
                given if text else json.loads(given),
                ttl_seconds=ttl or None,
                if_version=if_version,
            )
    except json.JSONDecodeError as error:
        raise UsageError(f"VALUE is no JSON ({error}); --text stores it as a text") from None
    except ValueError as error:
        raise UsageError(str(error)) from None
    cli.output.done(f"{key} has version {version}", key=key, version=version)


@app.command("rm")
@asynchronous
async def remove(
    context: typer.Context, workspace: Name, key: Key, if_version: IfVersion = None
) -> None:
    """Delete a key; harmless where it is absent."""
    cli = Cli.of(context)
    async with cli.acting(workspace) as agent:
        await agent.memory.delete_value(key, if_version=if_version)
    cli.output.done(f"deleted {key}", key=key, status="deleted")


def _plain(value: Any) -> Any:
    """A JSON value whose whole numbers have no `.0`, which gRPC's numbers always have."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value
