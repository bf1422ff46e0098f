"""Why the embedded Postgres is not there, in words for an operator."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

_LAST_LINES = 8
_NO_SPACE = "No space left on device"
# Four segments of the write-ahead log: with less, Postgres can neither recover nor commit.
_FULL_BYTES = 16 * 1024 * 1024


class EmbeddedPostgresError(RuntimeError):
    """The embedded Postgres cannot be started here; the text says why and what to do."""


class DataDirectoryInUseError(EmbeddedPostgresError):
    """Another process, `molecule-grpc up` most of the time, owns the data directory."""


def last_lines(file: Path, start: int = 0) -> list[str]:
    """The last lines of a log behind its first `start` bytes; none where there is no file."""
    try:
        said = file.read_bytes()
    except OSError:
        return []
    if len(said) < start:  # begun anew since
        start = 0
    return said[start:].decode(errors="replace").splitlines()[-_LAST_LINES:]


def reason_of_end(code: int | None, said: list[str], place: Path) -> str:
    """One sentence for the log.

    Args:
        code: the exit code, negative for a signal; None while the process runs.
        said: the last lines of Postgres' log.
        place: a directory on the disk of the data.
    """
    free = shutil.disk_usage(place).free
    if free < _FULL_BYTES or any(_NO_SPACE in line for line in said):
        return f"the disk is full: {free // 1024 // 1024} MiB are free at {place}"
    if code is None:
        return "not ready in time"
    if code == -signal.SIGKILL:
        return "killed (SIGKILL), by somebody or by the kernel for want of memory"
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return f"exit code {code}"
