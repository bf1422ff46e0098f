"""`molecule-grpc connect`: what a runtime needs to act as an external workspace."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import typer
from moleculeai.workspace.v1 import workspace_pb2

from molecule_grpc.cli.connecting import channel, codex, hermes, json_files, program
from molecule_grpc.cli.connecting.entry import CannotEdit, Entry
from molecule_grpc.cli.connecting.private_file import edit
from molecule_grpc.cli.context import Cli, UsageError, asynchronous, find_workspace

# What stands for the token in the texts of the platform.
_MARKS: Final = ("<paste from create response>", "<paste auth_token from create response>")


class Runtime(StrEnum):
    """What can be connected."""

    MCP = "mcp"
    PYTHON = "python"
    CLAUDE_CODE = "claude-code"
    HERMES = "hermes"
    CODEX = "codex"
    OPENCLAW = "openclaw"
    CURL = "curl"


class _File(NamedTuple):
    """A runtime's own configuration, and how it is changed."""

    path: str
    change: Callable[[str, Entry], str]


_FILES: Final = {
    Runtime.MCP: _File(".mcp.json", json_files.with_mcp_server),
    Runtime.CLAUDE_CODE: _File("~/.claude/channels/molecule/.env", channel.with_watched_workspace),
    Runtime.HERMES: _File("~/.hermes/config.yaml", hermes.with_hermes_server),
    Runtime.CODEX: _File("~/.codex/config.toml", codex.with_codex_server),
    Runtime.OPENCLAW: _File("~/.openclaw/openclaw.json", json_files.with_openclaw_server),
}
_PROGRAM: Final = "molecule_agent.py"


@asynchronous
async def connect(
    context: typer.Context,
    runtime: Annotated[Runtime, typer.Argument(help="What shall act as the workspace.")],
    workspace: Annotated[str, typer.Argument(metavar="WORKSPACE", help="Id or name.")],
    write: Annotated[
        bool, typer.Option("--write", help="Write the runtime's configuration instead.")
    ] = False,
    file: Annotated[
        Path | None, typer.Option(help="Another file to write than the runtime's own.")
    ] = None,
    agent_token: Annotated[
        str, typer.Option(envvar="MOLECULE_WORKSPACE_TOKEN", help="The workspace's token.")
    ] = "",
    mint: Annotated[bool, typer.Option("--mint", help="Make one more token for it.")] = False,
    rotate: Annotated[
        bool, typer.Option("--rotate", help="Revoke all of its tokens and make one.")
    ] = False,
) -> None:
    """Show how a runtime connects as an external workspace, or write its configuration.

    A second --write with the same token changes nothing. Files are for their owner alone.
    """
    if [bool(agent_token), mint, rotate].count(True) > 1:
        raise UsageError("give one of --agent-token, --mint and --rotate")
    if write and runtime is Runtime.CURL:
        raise UsageError("curl has no configuration: leave out --write")
    if write and not (agent_token or mint or rotate):
        raise UsageError("a configuration needs a token: --agent-token, --mint or --rotate")
    cli = Cli.of(context)
    path = file or _own_file(runtime)
    async with cli.platform() as platform:
        workspace_id = await find_workspace(platform, workspace)
        details = await platform.external.details(workspace_id)
        if write:
            # A token that is made now must not be lost because the file cannot be changed.
            _edit(path, runtime, details, "checked", only_check=True)
        if rotate:
            agent_token = (await platform.external.rotate(workspace_id)).auth_token
        elif mint:
            agent_token = (await platform.create_token(workspace_id)).auth_token
    if not write:
        _show(cli, runtime, details, _text(details, runtime, agent_token))
        return
    changed = _edit(path, runtime, details, agent_token)
    word = "wrote" if changed else "unchanged:"
    cli.output.done(f"{word} {path}", file=str(path), changed=changed)


def _own_file(runtime: Runtime) -> Path:
    known = _FILES.get(runtime)
    return Path(known.path).expanduser() if known else Path(_PROGRAM)


def _text(details: workspace_pb2.ConnectionInfo, runtime: Runtime, token: str) -> str:
    """The platform's text for a runtime, with the token where there is one."""
    fields = {tab.runtime: tab.field for tab in details.tabs}
    try:
        text = str(getattr(details, fields[runtime]))
    except KeyError:
        raise UsageError(f"this platform has no text for {runtime}") from None
    for mark in _MARKS if token else ():
        text = text.replace(mark, token)
    return text


def _show(cli: Cli, runtime: Runtime, details: workspace_pb2.ConnectionInfo, text: str) -> None:
    if cli.output.as_json:
        cli.output.one({"runtime": str(runtime), "text": text})
        return
    cli.output.result(text.rstrip("\n"))
    for tab in details.tabs:
        if tab.runtime == runtime:
            for problem in tab.problems:
                cli.output.note(f"{problem.symptom}: {problem.step}")
            cli.output.note(f"more: {tab.docs_url}")


def _edit(
    path: Path,
    runtime: Runtime,
    details: workspace_pb2.ConnectionInfo,
    token: str,
    *,
    only_check: bool = False,
) -> bool:
    entry = Entry(details.workspace_id, details.platform_url, details.mcp_endpoint, token)
    if runtime in _FILES:
        known = _FILES[runtime].change

        def change(text: str) -> str:
            return known(text, entry)

    else:
        made = _text(details, runtime, token)

        def change(text: str) -> str:
            return program.with_identity(text, entry, made)

    try:
        return edit(path, change, only_check=only_check)
    except (CannotEdit, UnicodeDecodeError) as error:
        raise UsageError(f"{path} stays as it is: {error}; edit it by hand") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
