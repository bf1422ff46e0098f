"""Owns the signals to the processes of a Postgres: who they are, how they are ended."""

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
    """The signals of Postgres' fast and immediate shutdown, then the kernel's, with wait_limit."""
    yield signal.SIGINT, fast_seconds
    yield signal.SIGQUIT, _KILL_TIMEOUT_SECONDS
    yield signal.SIGKILL, _KILL_TIMEOUT_SECONDS


def processes_in(cluster: Path) -> list[psutil.Process]:
    """Living processes of a server over this cluster: each of them works in it."""
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
    """Poll until the condition holds; False when it never did."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
