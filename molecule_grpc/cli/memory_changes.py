"""`molecule-grpc memory`: reading one memory, changing and forgetting it, and the namespaces."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from molecule_grpc.cli.context import Cli, asynchronous, text_or_stdin, time_of
from molecule_grpc.cli.workspaces import Name

_NAMESPACE_COLUMNS = ("name", "kind", "writable", "language", "description")

MemoryId = Annotated[str, typer.Argument(metavar="MEMORY", help="Id of the memory.")]


@asynchronous
async def get(context: typer.Context, workspace: Name, memory: MemoryId) -> None:
    """Show a memory, also after another memory superseded it."""
    cli = Cli.of(context)
    async with cli.acting(workspace) as agent:
        cli.output.one(await agent.memory.get(memory))


@asynchronous
async def update(
    context: typer.Context,
    workspace: Name,
    memory: MemoryId,
    *,
    content: Annotated[
        str, typer.Option(help="The new text; - reads it from stdin. Unchanged by default.")
    ] = "",
    tag: Annotated[
        list[str] | None, typer.Option(help="All tags from now on; may be given several times.")
    ] = None,
    pin: Annotated[bool | None, typer.Option("--pin/--unpin", help="First in lists.")] = None,
    valid_to: Annotated[str, typer.Option(help="RFC 3339 time until which it holds.")] = "",
    clear: Annotated[
        list[str] | None,
        typer.Option(help="expires_at, valid_from or valid_to; may be given several times."),
    ] = None,
    if_version: Annotated[int | None, typer.Option(min=1, help="Only if it has this one.")] = None,
) -> None:
    """Change a memory in place; its earlier text goes to the history."""
    cli = Cli.of(context)
    fields: dict[str, Any] = {
        "content": text_or_stdin(content) or None,
        "tags": tag,
        "pinned": pin,
        "valid_to": time_of(valid_to) if valid_to else None,
        "clear": clear,
        "if_version": if_version,
    }
    asked = {name: value for name, value in fields.items() if value is not None}
    async with cli.acting(workspace) as agent:
        cli.output.one(await agent.memory.update(memory, **asked))


@asynchronous
async def supersede(
    context: typer.Context,
    workspace: Name,
    memory: MemoryId,
    content: Annotated[str, typer.Argument(help="What holds now; - reads it from stdin.")],
    tag: Annotated[list[str] | None, typer.Option(help="May be given several times.")] = None,
) -> None:
    """Put a text in the place of a memory that no longer holds; the old one stays in history."""
    cli = Cli.of(context)
    text = text_or_stdin(content)
    async with cli.acting(workspace) as agent:
        cli.output.one(await agent.memory.supersede(memory, text, tags=tag or []))


@asynchronous
async def forget(context: typer.Context, workspace: Name, memory: MemoryId) -> None:
    """Remove a memory for good, with its history and vectors."""
    cli = Cli.of(context)
    async with cli.acting(workspace) as agent:
        removed = await agent.memory.forget(memory)
    cli.output.done(f"forgotten: {removed} rows are gone", removed=removed)


@asynchronous
async def consolidate(
    context: typer.Context,
    workspace: Name,
    content: Annotated[str, typer.Argument(help="What takes their place; - reads stdin.")],
    memories: Annotated[list[str], typer.Argument(metavar="MEMORY...", help="Two or more ids.")],
    dry_run: Annotated[bool, typer.Option(help="Only say what would happen.")] = False,
) -> None:
    """Put one text in the place of several memories of one namespace, all or none."""
    cli = Cli.of(context)
    text = text_or_stdin(content)
    async with cli.acting(workspace) as agent:
        cli.output.one(await agent.memory.consolidate(memories, text, dry_run=dry_run))


@asynchronous
async def undo(context: typer.Context, workspace: Name, memory: MemoryId) -> None:
    """Bring back the memories that a consolidated memory replaced; forget the consolidated one."""
    cli = Cli.of(context)
    async with cli.acting(workspace) as agent:
        restored = await agent.memory.undo_consolidation(memory)
    cli.output.done(f"{len(restored)} memories hold again", restored=restored)


@asynchronous
async def namespaces(context: typer.Context, workspace: Name) -> None:
    """List the namespaces that a workspace can read; `writable`: whether it can write there."""
    cli = Cli.of(context)
    async with cli.acting(workspace) as agent:
        found = await agent.memory.namespaces()
    cli.output.table(found.readable, _NAMESPACE_COLUMNS)


@asynchronous
async def language(
    context: typer.Context,
    workspace: Name,
    language: Annotated[str, typer.Argument(help="Such as german; `simple`: words as they are.")],
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="Which; its own by default.")
    ] = "",
) -> None:
    """Say in which language a namespace's words are found; its texts are indexed anew."""
    cli = Cli.of(context)
    async with cli.acting(workspace) as agent:
        changed = await agent.memory.set_language(language, namespace)
    cli.output.done(f"{language}: {changed} texts were indexed anew", reindexed=changed)


def add_commands(app: typer.Typer) -> None:
    """Put the commands of this page into `molecule-grpc memory`."""
    for command in (get, update, supersede, forget, consolidate, undo, namespaces, language):
        app.command()(command)
