"""`molecule-grpc up`: Postgres, workers and edge on this machine, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import structlog
from rich.console import Console

from molecule_grpc.auth import store as token_store
from molecule_grpc.auth.tokens import mint
from molecule_grpc.db.embedded.keeper import KeptPostgres
from molecule_grpc.db.embedded.server import EmbeddedPostgres
from molecule_grpc.db.migrate import migrate
from molecule_grpc.db.pool import connect
from molecule_grpc.db.roles import grant_embedded
from molecule_grpc.resources import migrations_dir
from molecule_grpc.server.edge.process import EdgeError
from molecule_grpc.server.edge.tls import TlsFiles, read_tls
from molecule_grpc.server.process.fleet import Fleet, worker_environment
from molecule_grpc.server.process.host_mode import HostMode
from molecule_grpc.server.process.logs import configure
from molecule_grpc.server.process.running_file import RunningFile, running_file
from molecule_grpc.settings.settings import Settings

log = structlog.get_logger("molecule_grpc.up")

TOKEN_FILE = "admin_token"
_EXAMPLE = """'{"name":"my-agent","runtime":"external"}'"""


def up(settings: Settings, console: Console) -> None:
    """Run until SIGINT or SIGTERM: Postgres (embedded unless DATABASE_URL), workers, edge.

    SIGHUP replaces one process after the other.

    Data stay in `settings.process.data_dir`.

    Raises:
        SettingsError: a file of TLS cannot be served.
    """
    configure(settings.process.log_level)
    if files := TlsFiles.of(settings.edge):
        read_tls(files)
    with _database(settings) as database:
        asyncio.run(_run(settings, database, console))


class _Database(NamedTuple):
    """Where the schema's owner connects, and where workers do: one role in an own Postgres."""

    owner_dsn: str
    server_dsn: str


@contextlib.contextmanager
def _database(settings: Settings) -> Iterator[_Database]:
    if own := settings.process.database_url:
        yield _Database(own, own)
        return
    with KeptPostgres(EmbeddedPostgres(settings.process.data_dir)) as server:
        yield _Database(server.dsn, server.server_dsn)


async def _run(settings: Settings, database: _Database, console: Console) -> None:
    started = time.monotonic()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    restarting = asyncio.Event()
    at_terminal = sys.stdin is not None and sys.stdin.isatty()

    def hang_up() -> None:
        # A terminal that is closed sends the same signal: with it, the server ends.
        (stopping if at_terminal and not _terminal_is_there() else restarting).set()

    loop.add_signal_handler(signal.SIGHUP, hang_up)
    for step in await migrate(database.owner_dsn, migrations_dir()):
        console.print(f"migrated {step}", highlight=False, soft_wrap=True)
    if not settings.process.database_url:
        await grant_embedded(database.owner_dsn)
    token = await ensure_operator_token(settings, database.server_dsn)
    async with Fleet(settings, database.server_dsn, worker_environment()) as fleet:
        file = RunningFile(running_file(settings))
        restarts = asyncio.create_task(_restarts(restarting, fleet, file))
        _greet(settings, console, token, fleet.mode, time.monotonic() - started)
        await stopping.wait()
        restarts.cancel()
        await asyncio.gather(restarts, return_exceptions=True)
        console.print("\nstopping: calls in flight may finish …", highlight=False)
    safe = f"stopped. Your data are safe in {settings.process.data_dir}"
    console.print(safe, highlight=False, soft_wrap=True)


async def _restarts(asked: asyncio.Event, fleet: Fleet, file: RunningFile) -> None:
    """Replace the fleet's processes each time that it is asked for; runs until cancelled."""
    while True:
        await asked.wait()
        asked.clear()
        file.begin()
        try:
            await fleet.restart()
        except (EdgeError, OSError) as error:
            log.error("the restart failed, the others serve on", because=str(error))  # noqa: TRY400
            file.end(str(error))
        else:
            log.info("all processes were replaced")
            file.end()


def _terminal_is_there() -> bool:
    try:
        termios.tcgetattr(sys.stdin)
    except (OSError, termios.error):
        return False
    return True


async def ensure_operator_token(settings: Settings, dsn: str) -> str | None:
    """Mint the operator's token at the first start. The token, or None at later starts.

    The file is written before the token is valid: a crash between never locks anybody out.
    """
    if settings.auth.admin_token:
        return None
    connection = await connect(dsn)
    try:
        async with connection.transaction():
            secret = mint()
            if not await token_store.insert_operator_token(connection, secret.digest):
                return None
            _write_secret(settings.process.data_dir / TOKEN_FILE, secret.text)
    finally:
        await connection.close()
    return secret.text


def _write_secret(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_text(text + "\n")


def _greet(
    settings: Settings, console: Console, token: str | None, mode: HostMode, seconds: float
) -> None:
    url = settings.edge.local_url
    file = settings.process.data_dir / TOKEN_FILE
    shown = "$ADMIN_TOKEN" if settings.auth.admin_token else f"$(cat {file})"
    lines = [
        f"[bold]Molecule gRPC is up[/] ({seconds:.1f} s)",
        f"  gRPC, REST/JSON, SSE, gRPC-Web   {url}",
        f"  health                           {url}/health",
        f"  handlers run                     {mode.where}: {mode.because}",
    ]
    if metrics := _metrics_url(settings, url):
        lines.append(f"  metrics                          {metrics}")
    if token:
        lines.append(f"  admin token (shown once)         {token}")
    curl = f"curl -s{_curl_options(settings)}"
    lines += [
        "Try this:",
        f"  {curl} {url}/health",
        f'  {curl} {url}/workspaces -H "Authorization: Bearer {shown}" -d {_EXAMPLE}',
        "  molecule-grpc workspace ls",
    ]
    console.print("\n".join(lines), highlight=False, soft_wrap=True)


def _curl_options(settings: Settings) -> str:
    """How curl is to trust the edge, and what to show to it, by variables of the command line."""
    options = ' --cacert "$MOLECULE_CA_FILE"' if settings.edge.tls else ""
    if settings.edge.tls_client_ca_file:
        options += ' --cert "$MOLECULE_CLIENT_CERT_FILE" --key "$MOLECULE_CLIENT_KEY_FILE"'
    return options


def _metrics_url(settings: Settings, url: str) -> str:
    """Where /metrics is served; empty where it is not."""
    if settings.edge.operator_port:
        return f"http://127.0.0.1:{settings.edge.operator_port}/metrics"
    shown = settings.edge.public_metrics or settings.edge.metrics_token
    return f"{url}/metrics" if shown else ""
