"""The embedded Postgres: files, process and settings. Only a Unix socket leads to it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Self
from urllib.parse import quote

import psutil

from molecule_grpc.db.embedded.access import write_access
from molecule_grpc.db.embedded.account import Account
from molecule_grpc.db.embedded.configuration import SETTINGS, WAL_SEGMENT_MIB
from molecule_grpc.db.embedded.failures import (
    EmbeddedPostgresError,
    last_lines,
    reason_of_end,
)
from molecule_grpc.db.embedded.lock import DirectoryLock
from molecule_grpc.db.embedded.processes import (
    escalation,
    is_ready,
    processes_in,
    recorded_pid,
    send,
    wait_until,
)
from molecule_grpc.db.embedded.programs import binary, embedded_postgres_version, programs
from molecule_grpc.db.roles import OWNER_ROLE, SERVER_ROLE

_VERSION_FILE = "PG_VERSION"  # initdb writes the major version into it
_SOCKET_NAME = ".s.PGSQL.5432"
_SOCKET_PATH_LIMIT = 107  # sockaddr_un holds 108 bytes with the closing zero
_INIT_TIMEOUT_SECONDS = 120.0
_START_TIMEOUT_SECONDS = 120.0  # crash recovery of 2 GB of WAL on a slow disk
_FAST_TIMEOUT_SECONDS = 10.0


class EmbeddedPostgres:
    """One Postgres over one data directory, run as a child of this process.

    One owner at a time, by a lock that dies with its process. A server left behind by a killed
    owner is shut down and started anew, so that every start ends with our settings in force.
    Every method blocks; in an event loop, call them in a thread.
    """

    def __init__(self, data_dir: Path, settings: Mapping[str, str] | None = None) -> None:
        """Touch nothing yet. `settings` are added to, and win over, `SETTINGS`."""
        self._root = data_dir.resolve()
        self._cluster = self._root / "postgres"
        self._pid_file = self._cluster / "postmaster.pid"
        self._output = self._root / "postgres.out"  # stderr until the daily log is open
        self._logged: dict[Path, int] = {}  # each log's size at the start
        self._settings = {**SETTINGS, **(settings or {})}
        self._lock = DirectoryLock(self._root)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def dsn(self) -> str:
        """Where the owner of the schema connects, as the superuser, to the database `postgres`."""
        return self._dsn(OWNER_ROLE)

    @property
    def server_dsn(self) -> str:
        """Where workers connect, as a role that `grant_embedded` makes."""
        return self._dsn(SERVER_ROLE)

    @property
    def pid(self) -> int | None:
        """The postmaster's process id; None before the start and after any end."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> str:
        """Create the cluster when there is none, start Postgres, and answer the DSN.

        Raises EmbeddedPostgresError: the directory has another owner at this moment, its data
        belong to another user or are no data of this Postgres, or Postgres did not become ready.
        """
        if self.pid:
            raise EmbeddedPostgresError(f"Postgres over {self._root} runs already")
        try:
            self._lock.take()
            self._open(threading.Event())
        except BaseException as error:
            self.stop()
            if isinstance(error, PermissionError):
                raise EmbeddedPostgresError(str(error)) from error
            raise
        return self.dsn

    def restart(self, give_up: threading.Event) -> None:
        """Start Postgres again after an end that nobody asked for. The directory stays ours.

        Raises what `start` raises; EmbeddedPostgresError also when `give_up` is set meanwhile.
        """
        try:
            self._open(give_up)
        except BaseException:
            self._end()
            raise

    def stop(self, timeout_seconds: float = _FAST_TIMEOUT_SECONDS) -> None:
        """Shut down: fast (rolls back, checkpoints), past the timeout immediate. Idempotent."""
        self._end(timeout_seconds)
        self._lock.release()

    def last_words(self) -> list[str]:
        """The last lines in Postgres' newest log file."""
        newest = max(self._logs(), key=lambda log: log.stat().st_mtime, default=None)
        lines = last_lines(self._output)
        return lines if newest is None else lines + last_lines(newest, self._logged.get(newest, 0))

    def why_ended(self) -> str:
        """Why Postgres is not there, for the operator's log."""
        code = self._process.poll() if self._process else None
        return reason_of_end(code, self.last_words(), self._root)

    def kill_hard(self) -> None:
        """Kill every process of the server at once, as a power cut would. `start` recovers."""
        if self._process:
            send(signal.SIGKILL, processes_in(self._cluster))
            self._process.wait()
            wait_until(lambda: not processes_in(self._cluster), _FAST_TIMEOUT_SECONDS)
        self.stop()

    def _open(self, give_up: threading.Event) -> None:
        account = Account.for_cluster(self._cluster)
        self._require_own_data()
        for tree in programs():
            account.open_tree(tree)
            account.open_way_to(tree)
        account.open_way_to(self._root)
        self._end_leftovers()
        if not self._cluster.exists():
            self._create_cluster(account)
        account.take(self._cluster)
        write_access(self._cluster, account)
        self._make_socket_dir(account)
        self._launch(account, give_up)

    def _require_own_data(self) -> None:
        """Raise unless the place is free, or holds data of this Postgres.

        Later steps change the owner of what is there, and open its directories to passers-by.
        """
        if not self._cluster.exists() and not self._cluster.is_symlink():
            return
        wanted = embedded_postgres_version().partition(".")[0]
        try:
            found = (self._cluster / _VERSION_FILE).read_text().strip()
        except OSError:
            raise EmbeddedPostgresError(
                f"{self._cluster} holds no data of Postgres; set MOLECULE_DATA_DIR to another place"
            ) from None
        if found != wanted:
            raise EmbeddedPostgresError(
                f"{self._cluster} holds data of Postgres {found}, and this one is {wanted}"
            )

    def _end_leftovers(self) -> None:
        """End the processes of a killed owner, and forget a pid that another program has now.

        Postgres refuses to start while backends of a killed postmaster hold its shared memory,
        and while the recorded pid is alive, even as another program's.
        """
        recorded = recorded_pid(self._pid_file)
        for signum, wait_limit in escalation(_FAST_TIMEOUT_SECONDS):
            left = processes_in(self._cluster)
            if signum is signal.SIGINT:
                # To a backend SIGINT only means "cancel your query": the postmaster passes it on.
                left = [process for process in left if process.pid == recorded]
                if not left:
                    continue
            send(signum, left)
            if wait_until(lambda: not processes_in(self._cluster), wait_limit):
                break
        if recorded and psutil.pid_exists(recorded):
            self._pid_file.unlink(missing_ok=True)
            (self._socket_dir() / f"{_SOCKET_NAME}.lock").unlink(missing_ok=True)

    def _create_cluster(self, account: Account) -> None:
        """Run initdb beside the final place and rename: a cluster is whole or absent."""
        for unfinished in self._root.glob("postgres.new-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        place = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=self._root))
        account.take(place)
        done = subprocess.run(
            [
                str(binary("initdb")),
                *("--pgdata", str(place), "--username", OWNER_ROLE, "--auth", "trust"),
                # Postgres' own collation sorts alike on every machine; that of libc does not.
                *("--encoding", "UTF8", "--locale", "C", "--locale-provider", "builtin"),
                *("--builtin-locale", "C.UTF-8", "--no-instructions"),
                # Everybody waits while a new segment of the log is written full of zeros.
                *("--wal-segsize", WAL_SEGMENT_MIB),
                *(["--no-sync"] if self._settings.get("fsync") == "off" else []),
            ],
            capture_output=True,
            text=True,
            timeout=_INIT_TIMEOUT_SECONDS,
            check=False,
            **account.popen_arguments(),
        )
        if done.returncode:
            raise EmbeddedPostgresError(f"initdb failed: {done.stderr.strip()}")
        place.rename(self._cluster)

    def _logs(self) -> Iterable[Path]:
        return self._cluster.glob("log/*.log")

    def _launch(self, account: Account, give_up: threading.Event) -> None:
        self._logged = {log: log.stat().st_size for log in self._logs()}
        with self._output.open("wb") as sink:
            process = self._process = subprocess.Popen(
                [
                    str(binary("postgres")),
                    *("-D", str(self._cluster), "-k", str(self._socket_dir())),
                    *(f"--{name}={value}" for name, value in self._settings.items()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                # Ctrl-C reaches the whole process group of a terminal, but Postgres goes last.
                start_new_session=True,
                **account.popen_arguments(),
            )
        ready = wait_until(
            lambda: (
                process.poll() is not None
                or give_up.is_set()
                or is_ready(self._pid_file, process.pid)
            ),
            _START_TIMEOUT_SECONDS,
        )
        if give_up.is_set():
            raise EmbeddedPostgresError("Postgres was stopped before it was ready")
        if not ready or self.pid is None:
            said = "\n".join(self.last_words())
            raise EmbeddedPostgresError(
                f"Postgres did not start: {self.why_ended()}; it said:\n{said}"
            )

    def _dsn(self, role: str) -> str:
        return f"postgresql://{role}@/postgres?host={quote(str(self._socket_dir()), safe='')}"

    def _socket_dir(self) -> Path:
        """The cluster itself, or a short place of its own when the path would not fit."""
        if len(os.fsencode(self._cluster / _SOCKET_NAME)) <= _SOCKET_PATH_LIMIT:
            return self._cluster
        digest = hashlib.sha256(os.fsencode(self._root)).hexdigest()[:16]
        return Path("/tmp") / f"molecule-{digest}"  # noqa: S108 - its owner and mode are checked

    def _make_socket_dir(self, account: Account) -> None:
        directory = self._socket_dir()
        if directory == self._cluster:
            return
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
            account.take(directory)
        found = directory.lstat()
        if found.st_uid != account.uid or found.st_mode & 0o077:
            raise EmbeddedPostgresError(f"{directory} is open to others or not ours; remove it")

    def _end(self, timeout_seconds: float = _FAST_TIMEOUT_SECONDS) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for signum, wait_limit in escalation(timeout_seconds):
            process.send_signal(signum)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(wait_limit)
                return
