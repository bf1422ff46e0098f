"""`molecule-grpc memory serve-plugin`, `conformance`, `backfill`, `convert`: other stores.

The server is imported inside the commands, as in `cli/installation.py`.
"""
# ruff: noqa: PLC0415

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit
from uuid import UUID

import typer

from molecule_grpc.cli.context import Cli, InstallationError, UsageError, asynchronous
from molecule_grpc.cli.failures import FAILED
from molecule_grpc.cli.installation import expected_errors, settings_of
from molecule_grpc.cli.output import Output
from molecule_grpc.settings.settings import Settings

if TYPE_CHECKING:
    from molecule_grpc.memory.legacy.backfill import Source
    from molecule_grpc.memory.legacy.store.agent_memories import Cursor
    from molecule_grpc.memory.legacy.targets import Target

ENVIRONMENT = 3
"""Exit code: a database or the plugin cannot be reached or used."""


def serve_plugin(
    context: typer.Context,
    database_url: Annotated[
        str,
        typer.Option(envvar="MEMORY_PLUGIN_DATABASE_URL", help="A database of its own."),
    ] = "",
    listen: Annotated[
        str, typer.Option(envvar="MEMORY_PLUGIN_LISTEN_ADDR", help="HOST:PORT.")
    ] = "127.0.0.1:9100",
    skip_migrate: Annotated[
        str,
        typer.Option(envvar="MEMORY_PLUGIN_SKIP_MIGRATE", help="1: leave the schema as it is."),
    ] = "",
    migrations: Annotated[
        Path | None,
        typer.Option(envvar="MEMORY_PLUGIN_MIGRATIONS_DIR", help="In place of the program's own."),
    ] = None,
) -> None:
    """Serve the built-in store of memories by the contract of plugins, without authentication.

    Any platform whose MEMORY_PLUGIN_URL names it keeps its memories there.
    """
    from molecule_grpc.memory.plugin.process import ServingError, serve
    from molecule_grpc.resources import migrations_dir
    from molecule_grpc.server.process.logs import configure

    if not database_url:
        raise InstallationError("serve-plugin needs --database-url or MEMORY_PLUGIN_DATABASE_URL")
    configure(settings_of(Cli.of(context).output).process.log_level)
    folder = None if skip_migrate == "1" else migrations or migrations_dir()
    with expected_errors():
        try:
            asyncio.run(serve(database_url, listen, folder))
        except (ServingError, TimeoutError) as error:
            raise InstallationError(str(error) or "the database does not answer") from error


@asynchronous
async def conformance(
    context: typer.Context,
    url: Annotated[str, typer.Argument(help="Base URL of the server, such as http://host:9100.")],
) -> None:
    """Check a server of the plugin contract. It gets two namespaces of random names meanwhile.

    Exit code 1 if a check failed. Advice tells what the platform has to do without.
    """
    from molecule_grpc.memory.contract.conformance import Outcome
    from molecule_grpc.memory.contract.conformance import conformance as run

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{url!r} is no http:// or https:// URL")
    output = Cli.of(context).output
    results = []
    async for result in run(url):
        results.append(result)
        if not output.as_json:
            print(result.outcome.value, result.name, result.detail, sep="\t")
    if output.as_json:
        output.one({"checks": [result._asdict() for result in results]})
    if any(result.outcome is Outcome.FAILED for result in results):
        raise typer.Exit(FAILED)


@asynchronous
async def backfill(
    context: typer.Context,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and write nothing.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Store every row under its id.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Look for the rows of some workspaces.")
    ] = False,
    workspace: Annotated[str, typer.Option(help="UUID: only rows of this workspace.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Most rows of a run.")] = 1_000_000,
    after: Annotated[str, typer.Option(help="Go on behind the `cursor` of an earlier run.")] = "",
    verify_sample: Annotated[int, typer.Option(min=1, help="How many workspaces.")] = 50,
    source_url: Annotated[
        str, typer.Option(help="Database with agent_memories; DATABASE_URL by default.")
    ] = "",
) -> None:
    """Move the table agent_memories of an old installation into the store of memories.

    The store is the plugin at MEMORY_PLUGIN_URL, or the built-in one of DATABASE_URL. A repeat
    changes nothing. Exit codes: 0 clean, 1 rows failed or are missing, 2 usage, 3 a database or
    the plugin cannot be reached.
    """
    if [dry_run, apply, verify].count(True) != 1:
        raise UsageError("give exactly one of --dry-run, --apply and --verify")
    only, begin = _uuid(workspace), _cursor(after)
    cli = Cli.of(context)
    with _environment(cli.output):
        settings = settings_of(cli.output)
        async with _opened(settings, source_url, cli.output) as (source, opened):
            if dry_run:
                copied = await source.copy(None, after=begin, limit=limit, workspace_id=only)
                counted = str(copied).replace("copied=", "would_copy=")
                cli.output.done(f"dry run: {counted}", **_facts(copied))
                return
            async with opened() as target:
                if apply:
                    copied = await source.copy(target, after=begin, limit=limit, workspace_id=only)
                    cli.output.done(f"applied: {copied}", **_facts(copied))
                    failed = copied.errors
                else:
                    verified = await source.verify(target, sample=verify_sample, workspace_id=only)
                    cli.output.done(f"verified: {verified}", **_facts(verified))
                    failed = verified.mismatches + verified.errors
    if failed:
        raise typer.Exit(FAILED)


def convert(
    layout: Annotated[str, typer.Argument(help="mem0 or langgraph.")],
    path: Annotated[Path, typer.Argument(help="File of JSON.", exists=True, dir_okay=False)],
    workspace: Annotated[str, typer.Option(help="Name of the workspace they shall belong to.")],
    scope: Annotated[str, typer.Option(help="LOCAL, TEAM or GLOBAL.")] = "LOCAL",
) -> None:
    """Print memories of another library as an export, which `memory import` takes.

    The file is what mem0's `get_all` or LangGraph's `store.search` gives, or rows of their tables
    as JSON: an array, or a line each.
    """
    from molecule_grpc.memory.legacy.foreign import LAYOUTS, Unreadable, Where, elements

    if layout not in LAYOUTS or scope not in ("LOCAL", "TEAM", "GLOBAL"):
        raise UsageError("give mem0 or langgraph, and LOCAL, TEAM or GLOBAL")
    where, opening = Where(workspace, scope), "["
    try:
        for element in elements(path.read_text()):
            print(opening + json.dumps(LAYOUTS[layout](element, where), ensure_ascii=False))
            opening = ","
    except (Unreadable, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}") from error
    print("[]" if opening == "[" else "]")


def add_commands(app: typer.Typer) -> None:
    """Add these commands to `molecule-grpc memory`."""
    app.command("serve-plugin")(serve_plugin)
    app.command("conformance")(conformance)
    app.command("backfill")(backfill)
    app.command("convert")(convert)


@contextlib.contextmanager
def _environment(output: Output) -> Iterator[None]:
    """Exit with 3 where a database or the plugin cannot be reached or used."""
    from molecule_grpc.kernel.errors import Unavailable
    from molecule_grpc.memory.legacy.backfill import SourceError
    from molecule_grpc.memory.legacy.targets import TargetAway

    try:
        with expected_errors():
            yield
    except (InstallationError, SourceError, TargetAway, Unavailable, TimeoutError) as error:
        output.notes.print(f"error: {error}", markup=False)
        raise typer.Exit(ENVIRONMENT) from error


@contextlib.asynccontextmanager
async def _opened(
    settings: Settings, source_url: str, output: Output
) -> AsyncIterator[tuple[Source, Callable[[], contextlib.AbstractAsyncContextManager[Target]]]]:
    """The old table, and what opens the target."""
    from molecule_grpc.db.pool import connect_pool
    from molecule_grpc.memory.legacy.backfill import Source

    async with contextlib.AsyncExitStack() as stack:
        own = stack.enter_context(_platform_database(settings))
        if not (source_url or own):
            raise InstallationError("backfill needs DATABASE_URL, or --source-url and a plugin")
        pool = await connect_pool(source_url or own, min_size=1, max_size=2)
        stack.push_async_callback(pool.close)
        source = await Source.open(pool, output.note)
        remote = settings.plugin.remote_url
        yield source, lambda: _plugin(settings, own) if remote else _built_in(settings, own)


@contextlib.contextmanager
def _platform_database(settings: Settings) -> Iterator[str]:
    """The platform's database; an embedded one is started unless `up` runs it. Empty for none."""
    from molecule_grpc.db.embedded.failures import DataDirectoryInUseError
    from molecule_grpc.db.embedded.server import EmbeddedPostgres

    data_dir = settings.process.data_dir
    if settings.process.database_url or not (data_dir / "postgres").exists():
        yield settings.process.database_url
        return
    with contextlib.ExitStack() as stack:
        server = EmbeddedPostgres(data_dir)
        with contextlib.suppress(DataDirectoryInUseError):
            stack.enter_context(server)
        yield server.dsn


@contextlib.asynccontextmanager
async def _plugin(settings: Settings, own: str) -> AsyncIterator[Target]:
    from molecule_grpc.db.installation import page_token_key
    from molecule_grpc.db.pool import connect_pool
    from molecule_grpc.memory.contract.errors import StoreError
    from molecule_grpc.memory.legacy.targets import PluginTarget
    from molecule_grpc.memory.plugin.client import PluginClient
    from molecule_grpc.memory.plugin.wire_names import WireNames

    key = b""
    if own:
        pool = await connect_pool(own, min_size=1, max_size=1)
        try:
            key = await page_token_key(pool)
        finally:
            await pool.close()
    async with PluginClient(settings.plugin.remote_url, settings.plugin.timeout) as client:
        try:
            await client.refresh()
        except StoreError as error:
            raise InstallationError(f"the memory plugin does not answer: {error}") from error
        yield PluginTarget(client, lambda organization_id: WireNames(key, organization_id))


@contextlib.asynccontextmanager
async def _built_in(settings: Settings, own: str) -> AsyncIterator[Target]:
    from molecule_grpc.core import open_core
    from molecule_grpc.delegation.record.notices import record_acts
    from molecule_grpc.memory.legacy.targets import BuiltInTarget
    from molecule_grpc.memory.opening import open_memories

    if not own:
        raise InstallationError("the built-in store needs DATABASE_URL")
    async with (
        open_core(settings, own, "molecule-grpc-backfill") as (core, _),
        open_memories(core, record_acts) as rooms,
    ):
        yield BuiltInTarget(core.pool, rooms.commits)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        raise UsageError(f"--workspace {text!r} is no UUID") from None


def _cursor(text: str) -> Cursor:
    from molecule_grpc.memory.legacy.store.agent_memories import FIRST, Cursor

    try:
        return Cursor.parse(text) if text else FIRST
    except ValueError:
        raise UsageError(f"--after {text!r} is no cursor of an earlier run") from None


def _facts(done: object) -> dict[str, object]:
    """The fields of a summary, for --json."""
    from dataclasses import fields

    return {
        each.name: str(value) if each.name == "cursor" else value
        for each in fields(done)  # type: ignore[arg-type]
        for value in [getattr(done, each.name)]
    }
