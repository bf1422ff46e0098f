"""`molecule-grpc up`, `serve`, `migrate` and `doctor`: the platform on this machine.

The server is imported by the commands that run it: the others start in a third of the time.
"""
# ruff: noqa: PLC0415

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from molecule_grpc.cli.context import Cli, InstallationError
from molecule_grpc.cli.failures import FAILED
from molecule_grpc.settings.settings import Settings
from molecule_grpc.settings.values import SettingsError


def up(
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes; WORKERS, or half the cores.")
    ] = None,
) -> None:
    """Start the platform: Postgres, workers and edge, until Ctrl-C.

    PORT, MOLECULE_DATA_DIR, DATABASE_URL and ADMIN_TOKEN say where and over what.
    """
    from molecule_grpc.cli.up import up as run

    with _expected_errors():
        settings = Settings.from_env()
        if workers is not None:
            process = dataclasses.replace(settings.process, workers=workers)
            settings = dataclasses.replace(settings, process=process)
        run(settings, Console())


def serve(
    address: Annotated[str, typer.Option(help="unix:PATH or HOST:PORT.")] = "127.0.0.1:9090",
) -> None:
    """Run one worker over DATABASE_URL, without the edge."""
    from molecule_grpc.cli.serve import serve as run

    with _expected_errors():
        run(Settings.from_env(), address)


def migrate(
    context: typer.Context,
    to: Annotated[int | None, typer.Option(help="Version; the newest by default.")] = None,
) -> None:
    """Bring the database's schema to a version."""
    from molecule_grpc.cli.serve import apply_migrations

    with _expected_errors():
        done = apply_migrations(Settings.from_env(), to)
    text = "\n".join(done) or "nothing to do"
    Cli.of(context).output.done(text, migrated=done)


def doctor(context: typer.Context) -> None:
    """Look at what the platform needs here, and change nothing."""
    from molecule_grpc.cli.serve import doctor as run

    output = Cli.of(context).output
    with _expected_errors():
        settings = Settings.from_env()
        findings = run(settings)
    if output.as_json:
        output.one(
            {
                "findings": [dataclasses.asdict(finding) for finding in findings],
                "settings": settings.describe(),
            }
        )
    else:
        table = Table(box=None, show_header=False, pad_edge=False)
        for finding in findings:
            mark = "[green]✓[/]" if finding.well else "[red]✗[/]"
            fix = "" if finding.well or not finding.fix else f"\n[dim]→ {finding.fix}[/]"
            table.add_row(mark, finding.name, finding.detail + fix)
        output.console.print(table)
        output.console.print(_in_force(settings))
    if not all(finding.well for finding in findings):
        raise typer.Exit(FAILED)


def _in_force(settings: Settings) -> Table:
    """Every variable with its value, and whether it was set or is the default."""
    table = Table(box=None, pad_edge=False, title="Settings in force", title_justify="left")
    for heading in ("variable", "value", "why"):
        table.add_column(heading)
    defaults = Settings().describe()
    for variable, value in settings.describe().items():
        usual = value == defaults[variable]
        why = "[dim]default[/]" if usual else f"set; the default is {defaults[variable] or 'empty'}"
        table.add_row(variable, value or "[dim]empty[/]", why)
    return table


@contextlib.contextmanager
def _expected_errors() -> Iterator[None]:
    """Failures that an operator can mend read as one line.

    Raises:
        InstallationError: one of them.
    """
    import asyncpg

    from molecule_grpc.cli.serve import NoDatabaseError
    from molecule_grpc.db.embedded.server import EmbeddedPostgresError
    from molecule_grpc.db.migrate import MigrationError
    from molecule_grpc.server.edge.edge import EdgeError

    known = (SettingsError, NoDatabaseError, EmbeddedPostgresError, MigrationError, EdgeError)
    try:
        yield
    except known as error:
        raise InstallationError(str(error)) from error
    except asyncpg.PostgresError as error:
        raise InstallationError(f"the database refused: {error}") from error
    except OSError as error:
        raise InstallationError(f"{error}") from error
