"""Finds the processes of a Postgres server, and ends them by signals."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

_KILL_TIMEOUT_SECONDS = 5.0
_POLL_SECONDS = 0.01


def escalation(fast_seconds: float) -> Iterable[tuple[signal.Signals, float]]:
    """The signals of Postgres' fast and immediate shutdown and SIGKILL, each with its seconds."""
    yield signal.SIGINT, fast_seconds
    yield signal.SIGQUIT, _KILL_TIMEOUT_SECONDS
    yield signal.SIGKILL, _KILL_TIMEOUT_SECONDS


def processes_in(cluster: Path) -> list[psutil.Process]:
    """Living processes of the server: its working directory is the cluster."""
    found = []
    for process in psutil.process_iter(["name"]):
        with contextlib.suppress(psutil.Error):
            if process.info["name"] == "postgres" and process.cwd() == str(cluster):
                found.append(process)
    return found


def send(signum: signal.Signals, processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signum)


def wait_until(condition: Callable[[], bool], timeout_seconds: float) -> bool:
    """Poll every 10 ms until the condition holds; False when the time is over before."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def recorded_pid(pid_file: Path) -> int | None:
    """The postmaster that the file names; None without a file, or while it is written."""
    try:
        return int(pid_file.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def is_ready(pid_file: Path, pid: int) -> bool:
    """Whether the postmaster has written its closing line, after recovery."""
    try:
        lines = pid_file.read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"
