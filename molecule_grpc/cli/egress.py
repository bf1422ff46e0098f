"""`molecule-grpc workspace egress`: which hosts a workspace may reach, and which it was refused."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from google.protobuf import struct_pb2
from moleculeai.workspace.v1 import egress_pb2

from molecule_grpc.cli.context import Cli, asynchronous, find_workspace
from molecule_grpc.host_list import NONE, OPEN

Name = Annotated[str, typer.Argument(metavar="WORKSPACE", help="Id or name.")]

_COLUMNS = ("host", "port", "reason", "attempts", "last_at")


def add_to(app: typer.Typer) -> None:
    """Add the command to those of workspaces."""
    app.command("egress")(asynchronous(egress))


async def egress(
    context: typer.Context,
    workspace: Name,
    given: Annotated[
        str | None,
        typer.Option(
            "--set",
            metavar="open|none|HOSTS",
            help="New hosts, with commas between them: host, host:port, *.host.",
        ),
    ] = None,
) -> None:
    """Show which hosts a workspace may reach and which it was refused; --set changes them."""
    cli = Cli.of(context)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        restart = False
        if given is not None:
            answer = await platform.set_egress(workspace_id, _hosts(given))
            restart = answer.needs_restart
        found = await platform.egress(workspace_id)
    if cli.output.as_json:
        cli.output.one(found)
        return
    if restart:
        cli.output.note(f"in force after `molecule-grpc workspace restart {workspace}`")
    cli.output.one({"egress": _shown(found), "enforced": found.enforced})
    cli.output.table(list(found.refused), _COLUMNS, empty="no host was refused")


def value_of(given: str) -> struct_pb2.Value:
    """The value of --egress as CreateWorkspace's `egress`."""
    hosts = _hosts(given)
    if isinstance(hosts, str):
        return struct_pb2.Value(string_value=hosts)
    values = [struct_pb2.Value(string_value=each) for each in hosts]
    return struct_pb2.Value(list_value=struct_pb2.ListValue(values=values))


def _hosts(given: str) -> str | list[str]:
    if given in (OPEN, NONE):
        return given
    return [word.strip() for word in given.split(",") if word.strip()]


def _shown(found: egress_pb2.Egress) -> str:
    value: Any = found.egress
    if value.WhichOneof("kind") == "string_value":
        return str(value.string_value)
    return ", ".join(each.string_value for each in value.list_value.values)
