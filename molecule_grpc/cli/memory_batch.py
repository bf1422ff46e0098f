"""`molecule-grpc memory batch` and `summary`: many memories from a file, and a summary of work."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final

import typer
from google.protobuf import json_format, struct_pb2
from moleculeai.memory.v1 import memory_pb2
from moleculeai.memory.v1 import memory_service_pb2 as pb

from molecule_grpc.cli.context import Cli, UsageError, asynchronous, text_or_stdin
from molecule_grpc.cli.workspaces import Name

_COLUMNS: Final = ("line", "id", "unchanged", "error")
# A call takes 100 drafts and 1 MiB in all.
_MOST_DRAFTS: Final = 100
_MOST_BYTES: Final = 900_000


@asynchronous
async def batch(
    context: typer.Context,
    workspace: Name,
    file: Annotated[
        Path, typer.Argument(help='Lines of JSON such as {"content": "…"}; - reads stdin.')
    ],
) -> None:
    """Remember every line of a file: a JSON object with `content`, and `tags`, `kind` and so on.

    A line that is refused fails alone; the exit code is 1 then. A repeat stores nothing twice.
    """
    cli = Cli.of(context)
    drafts = _drafts(_read(file))
    rows = []
    async with cli.acting(workspace) as agent:
        for part in _parts(drafts):
            outcomes = await agent.memory.commit_all([draft for _, draft in part])
            rows += [_row(line, each) for (line, _), each in zip(part, outcomes, strict=True)]
    cli.output.table(rows, _COLUMNS, empty="the file has no line")
    if any(row["error"] for row in rows):
        raise typer.Exit(1)


@asynchronous
async def summary(
    context: typer.Context,
    workspace: Name,
    content: Annotated[str, typer.Argument(help="The text; - reads it from stdin.")],
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Where to.")] = "",
    tag: Annotated[list[str] | None, typer.Option(help="May be given several times.")] = None,
) -> None:
    """Remember a summary, which expires in 30 days."""
    cli = Cli.of(context)
    text = text_or_stdin(content)
    async with cli.acting(workspace) as agent:
        cli.output.one(await agent.memory.commit_summary(text, namespace, tags=tag or []))


def add_commands(app: typer.Typer) -> None:
    """Put the commands of this page into `molecule-grpc memory`."""
    app.command()(batch)
    app.command()(summary)


def _read(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error


def _drafts(text: str) -> list[tuple[int, memory_pb2.MemoryDraft]]:
    """Each line that is not blank, with its number from 1."""
    drafts = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                drafts.append((number, json_format.Parse(line, memory_pb2.MemoryDraft())))
            except json_format.ParseError as error:
                raise UsageError(f"line {number} is no memory: {error}") from error
    return drafts


def _parts(
    drafts: Sequence[tuple[int, memory_pb2.MemoryDraft]],
) -> Iterator[list[tuple[int, memory_pb2.MemoryDraft]]]:
    """The drafts in order, in parts that fit into one call."""
    part: list[tuple[int, memory_pb2.MemoryDraft]] = []
    size = 0
    for number, draft in drafts:
        if part and (len(part) == _MOST_DRAFTS or size + draft.ByteSize() > _MOST_BYTES):
            yield part
            part, size = [], 0
        part.append((number, draft))
        size += draft.ByteSize()
    if part:
        yield part


def _row(line: int, outcome: pb.BatchCommitMemoriesResponse.Outcome) -> struct_pb2.Struct:
    row = struct_pb2.Struct()
    row.update(
        {
            "line": line,
            "id": outcome.result.id,
            "unchanged": outcome.result.unchanged,
            "error": outcome.error.message,
        }
    )
    return row
