"""`molecule-grpc backup` and `restore`: an installation in a directory, and back.

The server is imported inside the commands, as in `cli/installation.py`.
"""
# ruff: noqa: PLC0415

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from molecule_grpc.cli.context import Cli, InstallationError
from molecule_grpc.cli.installation import expected_errors, settings_of


def backup(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty directory.")],
) -> None:
    """Copy the installation into a directory, while it runs or not.

    Database, uploaded files and the operator's token: keep it as secret as the data directory.
    MOLECULE_DATA_DIR, DATABASE_URL and MOLECULE_S3_* say which installation.
    """
    from molecule_grpc.backup.backup import back_up
    from molecule_grpc.server.process.logs import configure

    output = Cli.of(context).output
    started = time.monotonic()
    with (
        _interruptible(f"{directory} is empty again"),
        expected_errors(),
        output.waiting("backing up …"),
    ):
        settings = settings_of(output)
        configure(settings.process.log_level)
        manifest = back_up(settings, directory)
    seconds = time.monotonic() - started
    if manifest.absent_files:
        output.warning(f"{len(manifest.absent_files)} files had left the object store meanwhile")
    output.done(
        f"backed up to {directory}: {manifest.size / 1e6:.1f} MB, schema "
        f"{manifest.schema_version}, {seconds:.1f} s",
        directory=str(directory),
        bytes=manifest.size,
        schema_version=manifest.schema_version,
        seconds=round(seconds, 3),
    )


def restore(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="What `backup` has written.")],
) -> None:
    """Put a backup into an empty data directory, or an empty database.

    MOLECULE_DATA_DIR, DATABASE_URL and MOLECULE_S3_* say where. Then start with `up`: clients
    whose cursors were given out after the backup are told to begin anew.
    """
    from molecule_grpc.backup.restore import restore as run
    from molecule_grpc.server.process.logs import configure

    output = Cli.of(context).output
    started = time.monotonic()
    with (
        _interruptible("nothing was restored"),
        expected_errors(),
        output.waiting("restoring …"),
    ):
        settings = settings_of(output)
        configure(settings.process.log_level)
        restored = run(settings, directory)
    seconds = time.monotonic() - started
    taken = restored.manifest.started_at.isoformat(timespec="seconds")
    output.done(
        f"restored the backup of {taken}, {seconds:.1f} s; start with `molecule-grpc up`",
        taken_at=taken,
        migrated=restored.migrated,
        seconds=round(seconds, 3),
    )


@contextlib.contextmanager
def _interruptible(outcome: str) -> Iterator[None]:
    """Let Ctrl-C fail: elsewhere it is the good end of a command.

    Raises:
        InstallationError: the body was interrupted.
    """
    try:
        yield
    except KeyboardInterrupt as interruption:
        raise InstallationError(f"interrupted: {outcome}") from interruption
