"""The command line, forked from a process that has loaded it: a load costs half a second of CPU.

A forked command has arguments, environment, standard streams, session and exit code of its own, as
one that is executed has. Tests of the start itself execute `python -m molecule_grpc.cli.main`.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["molecule_grpc.cli.main", "molecule_grpc.cli.up"])


class Forked:
    """A running command: what `subprocess.Popen` has of one.

    Args:
        words: behind `molecule-grpc`.
        output: where standard output goes, behind what the file has.
        errors: the same of standard error.
        given: what standard input reads.
    """

    def __init__(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        output: Path,
        errors: Path,
        given: Path = Path(os.devnull),
    ) -> None:
        arguments = (list(words), dict(environment), given, output, errors)
        self._process = _FORKS.Process(target=_run, args=arguments)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code; minus the signal that ended the process; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the process's end. Returns the exit code. Raises `subprocess.TimeoutExpired`."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(["molecule-grpc"], timeout or 0)
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the process has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it ends now
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End the process at once."""
        self.send_signal(signal.SIGKILL)


def run_command(
    words: Sequence[str], environment: Mapping[str, str], timeout: float, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. Raises `subprocess.TimeoutExpired`, the command killed."""
    with tempfile.TemporaryDirectory() as directory:
        given, output, errors = (Path(directory, name) for name in ("in", "out", "err"))
        given.write_text(stdin)
        process = Forked(words, environment, output, errors, given)
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
            process.wait()
        return subprocess.CompletedProcess(words, code, output.read_text(), errors.read_text())


def _run(
    words: list[str], environment: Mapping[str, str], given: Path, output: Path, errors: Path
) -> None:
    """The command's process: never returns."""
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    _become(0, given, os.O_RDONLY)
    _become(1, output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    _become(2, errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.stdin = os.fdopen(0, "r", encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
    sys.argv = ["molecule-grpc", *words]
    main = importlib.import_module("molecule_grpc.cli.main")
    main.app(prog_name="molecule-grpc")


def _become(number: int, path: Path, flags: int) -> None:
    """Open a file under the number of a standard stream."""
    opened = os.open(path, flags, 0o600)
    os.dup2(opened, number)
    os.close(opened)
