"""`molecule-grpc`: commands, global options, and the exit after a failure."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from molecule_grpc.cli import (
    approvals,
    audit,
    backups,
    bundles,
    connect,
    delegations,
    files,
    images,
    inboxes,
    installation,
    memory,
    organizations,
    quotas,
    schedules,
    secrets,
    tokens,
    workspaces,
)
from molecule_grpc.cli.context import Cli, InstallationError, TlsOptions, UsageError, read_token
from molecule_grpc.cli.failures import report
from molecule_grpc.cli.output import Output
from molecule_grpc.client.connection import version
from molecule_grpc.client.errors import CallError

_TLS_OPTIONS = ("--ca-file", "--client-cert-file", "--client-key-file")
_ANYWHERE = ("--json", "--url", "--token", *_TLS_OPTIONS)
_EXPECTED = (CallError, UsageError, InstallationError, TimeoutError)


class _Root(typer.core.TyperGroup):
    """Takes global options anywhere on the line; a failure is one line and an exit code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, hoisted(args))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except _EXPECTED as error:
            cli = ctx.find_object(Cli)
            output = cli.output if cli else Output(as_json=False)
            raise typer.Exit(report(error, output, cli.url if cli else "")) from error
        except (KeyboardInterrupt, asyncio.CancelledError) as interruption:
            raise typer.Exit(0) from interruption  # Ctrl-C is how `inbox tail` ends


def hoisted(args: list[str]) -> list[str]:
    """The arguments with the global options first; those behind a `--` stay where they are."""
    end = args.index("--") if "--" in args else len(args)
    front: list[str] = []
    rest: list[str] = []
    words = iter(args[:end])
    for word in words:
        name, equals, _ = word.partition("=")
        if name not in _ANYWHERE:
            rest.append(word)
        elif name == "--json" or equals:
            front.append(word)
        else:
            front += [word, *itertools.islice(words, 1)]
    return [*front, *rest, *args[end:]]


app = typer.Typer(cls=_Root, no_args_is_help=True, pretty_exceptions_enable=False)
app.command()(installation.up)
app.command()(installation.restart)
app.command()(installation.serve)
app.command()(installation.migrate)
app.command()(installation.doctor)
app.command()(installation.dev_ca)
app.command()(backups.backup)
app.command()(backups.restore)
app.add_typer(workspaces.app, name="workspace")
app.add_typer(tokens.app, name="token")
app.add_typer(organizations.app, name="org")
app.add_typer(audit.app, name="audit")
app.command("connect")(connect.connect)
app.command("quota")(quotas.quota)
app.command("delegate")(delegations.delegate)
app.add_typer(delegations.app, name="delegation")
app.add_typer(inboxes.app, name="inbox")
app.command("send")(delegations.send)
app.command("upload")(files.upload)
app.add_typer(files.app, name="files")
app.add_typer(memory.app, name="memory")
app.add_typer(secrets.app, name="secret")
app.add_typer(bundles.app, name="bundle")
app.add_typer(schedules.app, name="schedule")
app.add_typer(images.app, name="image")
app.add_typer(approvals.app, name="approval")


def _print_version(asked: bool) -> None:
    if asked:
        print(version())
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    *,
    url: Annotated[
        str | None,
        typer.Option(
            envvar="MOLECULE_URL", help="The platform; port PORT of this machine by default."
        ),
    ] = None,
    token: Annotated[
        str,
        typer.Option(
            envvar=["MOLECULE_TOKEN", "ADMIN_TOKEN"],
            show_envvar=True,
            help="Whose token; by default the operator's from the data directory.",
        ),
    ] = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON, and only JSON, on stdout.")
    ] = False,
    ca_file: Annotated[
        Path | None,
        typer.Option(
            envvar="MOLECULE_CA_FILE",
            help="PEM of the authority of an https:// platform; the system's by default.",
        ),
    ] = None,
    client_cert_file: Annotated[
        Path | None,
        typer.Option(
            envvar="MOLECULE_CLIENT_CERT_FILE",
            help="PEM of the certificate for a platform that asks for one.",
        ),
    ] = None,
    client_key_file: Annotated[
        Path | None,
        typer.Option(envvar="MOLECULE_CLIENT_KEY_FILE", help="PEM of that certificate's key."),
    ] = None,
    tls: Annotated[str, typer.Option(envvar="MOLECULE_TLS_CERT_FILE", hidden=True)] = "",
    port: Annotated[str, typer.Option(envvar="PORT", hidden=True)] = "8080",
    data_dir: Annotated[Path, typer.Option(envvar="MOLECULE_DATA_DIR", hidden=True)] = Path("data"),
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show it.")
    ] = False,
) -> None:
    """Molecule gRPC: a control plane for AI agents.

    --json, --url, --token and the files of TLS may stand anywhere on the line.
    """
    context.obj = Cli(
        url=url or f"{'https' if tls else 'http'}://127.0.0.1:{port}",
        token=token or read_token(data_dir),
        output=Output(as_json=as_json),
        tls=TlsOptions(ca_file, client_cert_file, client_key_file),
    )


if __name__ == "__main__":
    app()
