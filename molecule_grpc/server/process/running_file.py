"""A file in the data directory that tells of a running `up`: its process, and its restarts."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path

import structlog

from molecule_grpc.settings.settings import Settings

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Running:
    """What the file says.

    Args:
        begun: restarts that have begun.
        ended: restarts that have ended, well or not.
        failure: why the last one that ended has failed; empty if it has not.
    """

    pid: int
    begun: int = 0
    ended: int = 0
    failure: str = ""


class RunningFile:
    """Held by `up`: locked as long as its process lives, however that ends."""

    def __init__(self, path: Path) -> None:
        self._file = _locked(path)
        self._state = Running(os.getpid())
        self._write(self._state)

    def begin(self) -> None:
        """A restart begins."""
        self._write(dataclasses.replace(self._state, begun=self._state.begun + 1))

    def end(self, failure: str = "") -> None:
        """The restart has ended; `failure` says why it went wrong, if it did."""
        self._write(dataclasses.replace(self._state, ended=self._state.ended + 1, failure=failure))

    def _write(self, state: Running) -> None:
        self._state = state
        if self._file is None:
            return
        text = json.dumps(dataclasses.asdict(state)).encode()
        os.pwrite(self._file, text, 0)
        os.ftruncate(self._file, len(text))


def _locked(path: Path) -> int | None:
    """The file, open and locked; None where nothing can be written, which is no reason to stop."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        log.warning("`molecule-grpc restart` will not find this server", because=str(error))
        return None
    return file


def running_file(settings: Settings) -> Path:
    """Where the `up` of this address, port and data directory tells of itself."""
    return settings.process.data_dir / f"up-{settings.edge.host}-{settings.edge.port}.json"


def read_running(path: Path) -> Running | None:
    """What a running `up` says; None when none runs."""
    while True:
        try:
            with path.open("rb") as file:
                if _is_free(file.fileno()):
                    return None
                return Running(**json.loads(file.read()))
        except FileNotFoundError:
            return None
        except ValueError:
            continue  # It was just being written.


def _is_free(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
