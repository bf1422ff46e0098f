"""The real server as a test sees it: `molecule-grpc up` in a process of its own."""

from __future__ import annotations

import contextlib
import functools
import http.client
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from molecule_grpc.server.process.host_mode import host_mode
from molecule_grpc.settings.process import ProcessSettings
from tests.forked import Forked
from tests.ports import free_port
from tests.waiting import PATIENCE

READY_SECONDS = 240.0
ADMIN_TOKEN = "test-admin-token-0123456789abcdefghijklmnop"


@functools.cache
def _sockets() -> tempfile.TemporaryDirectory[str]:
    """The folder of all servers' sockets: a killed server leaves some, this process none."""
    return tempfile.TemporaryDirectory(prefix="molecule-test-")


_WORKER = "molecule_grpc.server.process.worker"


def _is_envoy(process: psutil.Process) -> bool:
    return bool(process.name() == "envoy")


class RunningServer:
    """Starts, kills and restarts an installation. The database outlives it.

    Args:
        entry: put before the command, such as the way into a network namespace. Without one the
            command is forked from a process that has loaded it.
    """

    def __init__(
        self,
        database_url: str,
        data_dir: Path,
        *,
        entry: Sequence[str] = (),
        **environment: str,
    ) -> None:
        self.port = free_port()
        self._entry = entry
        self.host = environment.get("MOLECULE_HOST") or "127.0.0.1"
        self.database_url = database_url
        self.data_dir = data_dir
        self.admin_token = ADMIN_TOKEN
        self.log = data_dir / "server.log"
        self.environment = {
            **os.environ,
            "TMPDIR": _sockets().name,
            "DATABASE_URL": database_url,
            "MOLECULE_DATA_DIR": str(data_dir),
            "PORT": str(self.port),
            "ADMIN_TOKEN": ADMIN_TOKEN,
            "WORKERS": "1",
            # Loading a second process costs each start of a server a second of CPU.
            "MOLECULE_SPARE_WORKER": "0",
            "MOLECULE_DRAIN_SECONDS": "2",
            "MOLECULE_PUBLIC_METRICS": "1",
            "SECRETS_ENCRYPTION_KEY": "a key of tests, 32 characters ok",
            # One process less, of 170 MB where the model is installed.
            "MEMORY_EMBEDDER": "none",
            # All strangers of a run of tests come from one address.
            "MOLECULE_STRANGER_CALLS_PER_MINUTE": "0",
            **environment,
        }
        self._tls = bool(environment.get("MOLECULE_TLS_CERT_FILE"))
        self._client = environment.get("MOLECULE_CLIENT_CERT_FILE", "")
        self._client_key = environment.get("MOLECULE_CLIENT_KEY_FILE", "")
        self._process: subprocess.Popen[bytes] | Forked | None = None

    @property
    def url(self) -> str:
        """Where Envoy listens."""
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    @property
    def grpc_target(self) -> str:
        """The same place as a gRPC client names it."""
        return f"{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """The process that was started; workers and edge are its children."""
        assert self._process is not None
        return self._process.pid

    @property
    def inside(self) -> bool:
        """Whether handlers run inside Envoy: what this server was asked for, or has chosen."""
        asked = self.environment.get("MOLECULE_HOST_MODE") or ProcessSettings().host_mode
        return host_mode(asked).module is not None

    def workers(self) -> list[psutil.Process]:
        """The processes that run handlers, with the spare worker."""
        found = []
        for child in psutil.Process(self.pid).children():
            with contextlib.suppress(psutil.Error):  # it ended while we looked
                if _is_envoy(child) if self.inside else _WORKER in child.cmdline():
                    found.append(child)
        return found

    def start(self) -> None:
        """Start and wait until it answers."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if self._entry:
            self._process = self._executed()
        else:
            self._process = Forked(["up"], self.environment, self.log, self.log)
        deadline = time.monotonic() + READY_SECONDS
        while not self.healthy():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()  # Left alone, it would compete with every test to come.
                raise RuntimeError(f"the server did not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.05)

    def _executed(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*self._entry, sys.executable, "-m", "molecule_grpc.cli.main", "up"],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def healthy(self) -> bool:
        """Whether it answers now. Plain `http.client`: a start asks a hundred times."""
        connection = self._connection()
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        """Trusts any certificate, and shows one where this server asks for it."""
        if not self._tls:
            return http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if self._client:
            context.load_cert_chain(self._client, self._client_key)
        return http.client.HTTPSConnection(self.host, self.port, timeout=PATIENCE, context=context)

    def require_sound_scripts(self) -> None:
        """Raise for a script of the edge that failed: the edge goes on without it."""
        failed = [line for line in self.log.read_text().splitlines() if "script log:" in line]
        assert failed == []

    def kill(self) -> None:
        """SIGKILL, as a power cut would end it; the kernel takes its children along."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> int:
        """Stop in good order; the exit code."""
        if self._process is None:
            return 0
        if (code := self._process.poll()) is not None:
            return code
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()
