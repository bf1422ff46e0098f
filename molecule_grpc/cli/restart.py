"""`molecule-grpc restart`: one process after the other, without a failed call."""

from __future__ import annotations

import os
import signal
import time

from molecule_grpc.server.process.running_file import Running, read_running, running_file
from molecule_grpc.settings.settings import Settings

_LOOK_SECONDS = 0.1


class RestartError(Exception):
    """No server runs here, or not all of its processes were replaced."""


def restart(settings: Settings) -> None:
    """Let the server of this port and data directory replace its processes, and wait for it.

    Raises:
        RestartError: there is none, or a new process did not get ready.
    """
    before = _running(
        settings, "no server with this MOLECULE_DATA_DIR, MOLECULE_HOST and PORT is running"
    )
    os.kill(before.pid, signal.SIGHUP)
    while (now := _running(settings, "the server has ended")).ended <= before.begun:
        time.sleep(_LOOK_SECONDS)
    if now.failure:
        raise RestartError(f"not all processes are new, the others serve on: {now.failure}")


def _running(settings: Settings, otherwise: str) -> Running:
    running = read_running(running_file(settings))
    if running is None:
        raise RestartError(otherwise)
    return running
