"""Runs pg_dump, pg_restore and psql, which come with the embedded Postgres."""

from __future__ import annotations

import asyncio
import contextlib
import os
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from molecule_grpc.backup.manifest import BackupError
from molecule_grpc.db.embedded.programs import binary

_SAID_LINES = 4


async def dump(dsn: str, folder: Path, *, snapshot: str, schema: str) -> None:
    """Write a Postgres schema, as a snapshot sees it, into a new folder.

    Rows of `live_events` are left out: they live for minutes, and their table is unlogged.

    Raises:
        BackupError: pg_dump failed.
    """
    command = [
        "pg_dump",
        *("--format=directory", "--file", str(folder), "--snapshot", snapshot),
        # With the planner's statistics: a restored server knows its tables from the first call.
        *("--schema", f'"{schema}"', "--no-owner", "--no-privileges", "--statistics"),
        "--compress=gzip:1",  # the server it runs beside needs the processor more
        f'--exclude-table-data="{schema}".live_events',
    ]
    async with _running(dsn, *command) as process:
        _, said = await process.communicate()
    _require_success("pg_dump", process, said)


async def load(dsn: str, folder: Path, *, schema: str, then: str) -> None:
    """Load a dump in one transaction, and run the statements `then` in the same.

    A restore that is killed leaves the database as it was.

    Raises:
        BackupError: a program failed; nothing was changed.
    """
    # Without its context an error of psql quotes no rows, which may hold secrets.
    quiet = ("--no-psqlrc", "--quiet", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=terse")
    wanted = ("--file=-", "--schema", schema, "--no-owner", "--no-privileges", "--statistics")
    reading, writing = os.pipe()
    with os.fdopen(reading) as end, os.fdopen(writing, "wb", buffering=0) as script:
        async with _running(dsn, "psql", *quiet, stdin=end, stdout=DEVNULL) as psql:
            end.close()
            ending = asyncio.create_task(psql.communicate())
            with contextlib.suppress(BrokenPipeError):  # then psql has ended, and says why
                script.write(b"BEGIN;\n")
            async with _running("", "pg_restore", *wanted, str(folder), stdout=script) as source:
                _, source_said = await source.communicate()
            if not source.returncode:
                with contextlib.suppress(BrokenPipeError):
                    await asyncio.to_thread(script.write, f"{then}\nCOMMIT;\n".encode())
            script.close()  # an end without COMMIT rolls everything back
            _, said = await ending
    # pg_restore fails, too, when psql has ended before it.
    _require_success("psql", psql, said)
    _require_success("pg_restore", source, source_said)


@contextlib.asynccontextmanager
async def _running(dsn: str, program: str, *arguments: str, **pipes: Any) -> AsyncIterator[Process]:
    """A program, killed when its caller leaves before it has ended."""
    environment = dict(os.environ)
    target: tuple[str, ...] = ()
    if dsn:
        uri, password = without_password(dsn)
        target = ("--dbname", uri)
        if password is not None:
            environment["PGPASSWORD"] = password
    process = await asyncio.create_subprocess_exec(
        str(binary(program)),
        *target,
        *arguments,
        **{"stdin": DEVNULL, "stderr": PIPE, **pipes},
        env=environment,
        umask=0o077,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _require_success(name: str, process: Process, said: bytes) -> None:
    if process.returncode:
        lines = said.decode(errors="replace").strip().splitlines()[-_SAID_LINES:]
        raise BackupError(f"{name} failed: {' / '.join(lines)}")


def without_password(dsn: str) -> tuple[str, str | None]:
    """A URL that may be shown to every process of the machine, and the password taken out of it."""
    parts = urlsplit(dsn)
    user_info, at, host = parts.netloc.rpartition("@")
    user, colon, password = user_info.partition(":")
    found = unquote(password) if colon else None
    kept = []
    for pair in parts.query.split("&"):
        name, _, value = pair.partition("=")
        if name == "password":
            found = unquote(value)
        elif pair:
            kept.append(pair)
    return urlunsplit(parts._replace(netloc=f"{user}{at}{host}", query="&".join(kept))), found
