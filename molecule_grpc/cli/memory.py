"""`molecule-grpc memory`: what workspaces remember."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from molecule_grpc.cli import (
    memory_admin,
    memory_batch,
    memory_changes,
    memory_keys,
    memory_plugin,
)
from molecule_grpc.cli.context import Cli, UsageError, asynchronous, text_or_stdin, time_of
from molecule_grpc.cli.workspaces import Name

app = typer.Typer(no_args_is_help=True, help="Memories: search, add, explain, look after.")
memory_plugin.add_commands(app)
memory_changes.add_commands(app)
memory_batch.add_commands(app)
memory_admin.add_commands(app)
app.add_typer(memory_keys.app, name="key")

# As many as leave room for the text in 80 columns; --json has all fields.
_HIT_COLUMNS = ("id", "content")
_VERSION_COLUMNS = ("version", "change", "content")
_FINDING_COLUMNS = ("problem", "count", "detail", "remedy")

MemoryId = Annotated[str, typer.Argument(metavar="MEMORY", help="Id of the memory.")]
Namespaces = Annotated[
    list[str] | None,
    typer.Option("--namespace", "-n", help="Where; may be given several times."),
]


@app.command()
@asynchronous
async def search(
    context: typer.Context,
    workspace: Name,
    query: Annotated[str, typer.Argument(help="A question, words or an identifier.")] = "",
    *,
    namespace: Namespaces = None,
    mode: Annotated[str, typer.Option(help="hybrid, semantic, lexical or recent.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    as_of: Annotated[str, typer.Option(help="RFC 3339 time: what was held then.")] = "",
    delegation: Annotated[str, typer.Option(help="Only what came from this one; its id.")] = "",
    file: Annotated[str, typer.Option(help="Only what came from this uploaded one; its id.")] = "",
) -> None:
    """Find memories that a workspace can read; without a query the newest."""
    cli = Cli.of(context)
    async with cli.acting(workspace) as agent:
        found = await agent.memory.search(
            query,
            as_of=time_of(as_of) if as_of else None,
            namespaces=namespace or [],
            mode=mode,
            limit=limit,
            delegation_id=delegation,
            file_id=file,
        )
    cli.output.table(found.memories, _HIT_COLUMNS, empty="no memory found")
    note = f"{found.mode_used} search in {', '.join(found.searched_namespaces) or 'nothing'}"
    cli.output.note(f"{note}; confidence: {found.confidence or 'none'}")
    for each in found.degraded:
        cli.output.warning(each)


@app.command()
@asynchronous
async def add(
    context: typer.Context,
    workspace: Name,
    content: Annotated[str, typer.Argument(help="The text; - reads it from stdin.")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Where to.")] = "",
    tag: Annotated[list[str] | None, typer.Option(help="May be given several times.")] = None,
    supersedes: Annotated[str, typer.Option(help="Id of what no longer holds.")] = "",
) -> None:
    """Remember a text in a workspace's name."""
    cli = Cli.of(context)
    text = text_or_stdin(content)
    async with cli.acting(workspace) as agent:
        if supersedes:
            done = await agent.memory.supersede(
                supersedes, text, namespace=namespace, tags=tag or []
            )
        else:
            done = await agent.memory.commit(text, namespace, tags=tag or [])
    cli.output.one(done)


@app.command()
@asynchronous
async def why(
    context: typer.Context,
    workspace: Name,
    memory: MemoryId,
    query: Annotated[str, typer.Argument(help="The search to explain.")],
    namespace: Namespaces = None,
) -> None:
    """Say why a memory is, or is not, among the hits of a search."""
    cli = Cli.of(context)
    async with cli.acting(workspace) as agent:
        cli.output.one(await agent.memory.explain(memory, query, namespaces=namespace or []))


@app.command()
@asynchronous
async def history(context: typer.Context, workspace: Name, memory: MemoryId) -> None:
    """List the texts of a memory and of those that it replaced, oldest first."""
    cli = Cli.of(context)
    async with cli.acting(workspace) as agent:
        cli.output.table(await agent.memory.history(memory), _VERSION_COLUMNS)


@app.command()
@asynchronous
async def hygiene(
    context: typer.Context,
    workspace: Name,
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="Which; its own by default.")
    ] = "",
) -> None:
    """Report what may be mended in a namespace."""
    cli = Cli.of(context)
    async with cli.acting(workspace) as agent:
        report = await agent.memory.hygiene(namespace)
    if cli.output.as_json:
        cli.output.one(report)
        return
    cli.output.note(f"{report.namespace}: {report.memories} memories, {report.bytes} bytes")
    cli.output.table(report.findings, _FINDING_COLUMNS, empty="nothing to mend")


@app.command()
@asynchronous
async def export(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(help="File to write; must not exist.")],
    organization: Annotated[str, typer.Option(help="UUID; all by default.")] = "",
) -> None:
    """Write all memories of an organisation, or of all, into a file of JSON."""
    cli = Cli.of(context)
    try:
        file = path.open("xb")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
    try:
        with file:
            async with cli.platform() as platform:
                async for piece in platform.export_memories(organization):
                    await asyncio.to_thread(file.write, piece)
    except BaseException:
        path.unlink()  # readers of half an export would take the file for whole
        raise
    cli.output.done(f"written to {path}", path=str(path))


@app.command("import")
@asynchronous
async def import_(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(help="File of an export.", exists=True, dir_okay=False)],
    organization: Annotated[str, typer.Option(help="UUID; the default one if not given.")] = "",
) -> None:
    """Commit the memories of an export; memories stored already stay unchanged.

    Exits with 1 if a memory was refused or left out.
    """
    cli = Cli.of(context)
    async with cli.platform() as platform:
        done = await platform.import_memories(path, organization)
    cli.output.one(done)
    if done.errors or done.skipped:
        raise typer.Exit(1)
