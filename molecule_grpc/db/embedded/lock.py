"""One owner of a data directory at a time, by a lock that dies with its process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Self

from molecule_grpc.db.embedded.failures import DataDirectoryInUseError

LOCK_FILE = "postgres.lock"


class DirectoryLock:
    """The right to change what stands in a data directory, which is made when it is missing."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._file: int | None = None

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def take(self) -> None:
        """Become the owner. Idempotent. Raises DataDirectoryInUseError."""
        if self._file is not None:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        file = os.open(self._directory / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise DataDirectoryInUseError(
                f"{self._directory} is in use by another process; stop it or choose another "
                "directory"
            ) from None
        self._file = file

    def release(self) -> None:
        """Let others in. Idempotent."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
