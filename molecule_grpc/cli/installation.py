"""`molecule-grpc up`, `restart`, `serve`, `migrate`, `doctor`, `dev-ca`: all on this machine.

The server is imported inside the commands that run it: the other commands start in a third of the
time.
"""
# ruff: noqa: PLC0415

from __future__ import annotations

import contextlib
import dataclasses
import enum
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from molecule_grpc.cli.context import Cli, InstallationError
from molecule_grpc.cli.failures import FAILED
from molecule_grpc.cli.output import Output
from molecule_grpc.settings.settings import Settings
from molecule_grpc.settings.values import SettingsError

if TYPE_CHECKING:
    from molecule_grpc.cli.doctor import Finding


class DoctorPart(enum.StrEnum):
    """What doctor looks at."""

    ALL = "all"
    BACKEND = "backend"


def up(
    context: typer.Context,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes; WORKERS, or half the cores.")
    ] = None,
) -> None:
    """Start the platform: Postgres, workers and edge, until Ctrl-C.

    PORT, MOLECULE_DATA_DIR, DATABASE_URL and ADMIN_TOKEN say where and over what.
    """
    from molecule_grpc.cli.up import up as run

    with expected_errors():
        settings = settings_of(Cli.of(context).output)
        if workers is not None:
            process = dataclasses.replace(settings.process, workers=workers)
            settings = dataclasses.replace(settings, process=process)
        run(settings, Console())


def restart(context: typer.Context) -> None:
    """Replace the processes of a running `up`, one after the other, without a failed call.

    MOLECULE_DATA_DIR, MOLECULE_HOST and PORT say which one. Each new process loads the program
    anew and serves before the one that it replaces ends; returns when all are new.
    """
    from molecule_grpc.cli.restart import restart as run

    output = Cli.of(context).output
    with expected_errors():
        run(settings_of(output))
    output.done("all processes are new", restarted=True)


def serve(
    context: typer.Context,
    address: Annotated[str, typer.Option(help="unix:PATH or HOST:PORT.")] = "127.0.0.1:9090",
) -> None:
    """Run one worker over DATABASE_URL, without the edge."""
    from molecule_grpc.cli.serve import serve as run

    with expected_errors():
        run(settings_of(Cli.of(context).output), address)


def migrate(
    context: typer.Context,
    to: Annotated[int | None, typer.Option(help="Version; the newest by default.")] = None,
    server_role: Annotated[
        str | None, typer.Option(help="Grant this role what a server needs, and no more.")
    ] = None,
) -> None:
    """Bring the database's schema to a version."""
    from molecule_grpc.cli.migrations import apply_migrations

    output = Cli.of(context).output
    with expected_errors():
        done = apply_migrations(settings_of(output), to, server_role)
    text = "\n".join(done) or "nothing to do"
    output.done(text, migrated=done)


def doctor(
    context: typer.Context,
    part: Annotated[
        DoctorPart, typer.Argument(help="`backend`: what the Docker engine of this machine can do.")
    ] = DoctorPart.ALL,
) -> None:
    """Look at what the platform needs here, and change nothing."""
    output = Cli.of(context).output
    with expected_errors():
        settings = Settings.from_env()
        findings = _findings(part, settings)
    if output.as_json:
        output.one(
            {
                "findings": [dataclasses.asdict(finding) for finding in findings],
                "settings": settings.describe(),
            }
        )
    else:
        _show_findings(output, findings)
        _showsettings_of(output, settings)
    if not all(finding.well for finding in findings):
        raise typer.Exit(FAILED)


def _findings(part: DoctorPart, settings: Settings) -> list[Finding]:
    if part is DoctorPart.BACKEND:
        from molecule_grpc.cli.doctor_backend import doctor_backend

        return doctor_backend(settings)
    from molecule_grpc.cli.doctor import doctor as run

    return run(settings)


def dev_ca(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(help="Made if missing; nothing is overwritten.")],
    host: Annotated[
        list[str] | None,
        typer.Option(help="One more name or address of the server; may be given several times."),
    ] = None,
) -> None:
    """Make a certificate authority, a server's certificate and a client's, for development.

    The server is called localhost, 127.0.0.1, ::1 and by this machine's name. All are valid for
    365 days. Whoever reads ca-key.pem can sign for whoever trusts ca.pem.
    """
    from molecule_grpc.cli.dev_ca import dev_ca_variables, make_dev_ca

    with expected_errors():
        make_dev_ca(directory, host or [])
    plain, mutual = dev_ca_variables(directory)
    output = Cli.of(context).output
    if output.as_json:
        output.one(plain | mutual)
        return
    print("# The server, and whoever calls it:")
    for name, path in plain.items():
        print(f"export {name}={shlex.quote(path)}")
    print("# With these, too, clients without a certificate of this authority are refused:")
    for name, path in mutual.items():
        print(f"# export {name}={shlex.quote(path)}")


def settings_of(output: Output) -> Settings:
    """The settings of the environment, their warnings printed to stderr, a line each.

    Raises:
        SettingsError: a variable holds what is not allowed.
    """
    settings = Settings.from_env()
    for warning in settings.warnings:
        output.warning(warning)
    return settings


def _show_findings(output: Output, findings: Sequence[Finding]) -> None:
    """What doctor found; in a pipe a line each, its columns between tabs."""
    if not output.console.is_terminal:
        for finding in findings:
            fix = "" if finding.well else finding.fix
            print("ok" if finding.well else "wrong", finding.name, finding.detail, fix, sep="\t")
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        mark = "[green]✓[/]" if finding.well else "[red]✗[/]"
        fix = "" if finding.well or not finding.fix else f"\n[dim]→ {finding.fix}[/]"
        table.add_row(mark, finding.name, escape(finding.detail) + fix)
    output.console.print(table)


def _showsettings_of(output: Output, settings: Settings) -> None:
    """Every variable with its value, and whether that is the default; in a pipe a line each."""
    table = Table(box=None, pad_edge=False, title="Settings in force", title_justify="left")
    for heading in ("variable", "value", "why"):
        table.add_column(heading, overflow="fold")
    defaults = Settings().describe()
    for variable, value in settings.describe().items():
        usual = value == defaults[variable]
        why = "default" if usual else f"set; the default is {defaults[variable] or 'empty'}"
        if output.console.is_terminal:
            table.add_row(variable, escape(value) or "[dim]empty[/]", escape(why))
        else:
            print(variable, value, why, sep="\t")
    if output.console.is_terminal:
        output.console.print(table)


@contextlib.contextmanager
def expected_errors() -> Iterator[None]:
    """Turn failures that an operator can mend into one line without a traceback.

    Raises:
        InstallationError: such a failure happened inside.
    """
    import asyncpg

    from molecule_grpc.backup.manifest import BackupError
    from molecule_grpc.cli.restart import RestartError
    from molecule_grpc.db.embedded.failures import EmbeddedPostgresError
    from molecule_grpc.db.migrate import MigrationError
    from molecule_grpc.db.postgres_version import UnsupportedPostgresError
    from molecule_grpc.db.roles import RoleError
    from molecule_grpc.server.edge.process import EdgeError

    known = (
        SettingsError,
        UnsupportedPostgresError,
        EmbeddedPostgresError,
        MigrationError,
        RoleError,
        EdgeError,
        BackupError,
        RestartError,
    )
    try:
        yield
    except known as error:
        raise InstallationError(str(error)) from error
    except asyncpg.PostgresError as error:
        raise InstallationError(f"the database refused: {error}") from error
    except FileExistsError as error:
        raise InstallationError(f"{error.filename} exists, and is not overwritten") from error
    except OSError as error:
        raise InstallationError(f"{error}") from error
