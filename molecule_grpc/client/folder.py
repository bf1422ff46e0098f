"""A folder of received files: each written once, whole, and readable by its owner only."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

_BLOCK_BYTES = 1024 * 1024
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_OLD = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Folder:
    """Opens the directory once, and reads and writes relative to it: swapping its path is vain.

    Args:
        path: made with mode 0700 if missing. The last component must not be a symbolic link.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    def find(self, prefix: str) -> Path | None:
        """The first file whose name begins with `prefix`; None when there is none."""
        with self._opened() as folder:
            for name in sorted(os.listdir(folder)):  # noqa: PTH208  (of the open directory)
                if name.startswith(prefix) and _is_file(name, folder):
                    return self.path / name
        return None

    def new(self, name: str) -> PartialFile:
        """Begin a file of this name.

        Raises:
            OSError: the folder cannot be written.
        """
        with self._opened() as folder:
            return PartialFile(self.path, name, os.dup(folder))

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(self.path, _OPEN_FOLDER)
        try:
            yield folder
        finally:
            os.close(folder)


class PartialFile:
    """A file under a temporary name until `finish`; without `finish` the file is deleted."""

    def __init__(self, path: Path, name: str, folder: int) -> None:
        self._path = path / name
        self._name = name
        self._folder = folder
        self._draft = f".{name}.{secrets.token_hex(8)}.part"
        self._hash = hashlib.sha256()
        self.size = 0
        try:
            self._file = os.open(self._draft, _OPEN_NEW, 0o600, dir_fd=folder)
        except OSError:
            os.close(folder)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._file)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._draft, dir_fd=self._folder)
        os.close(self._folder)

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes written so far, in hexadecimal digits."""
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        """Add bytes at the end."""
        self._hash.update(data)
        self.size += len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._file, view) :]

    def finish(self) -> Path:
        """Sync the file to disk, then give the file its name; the path.

        A file of that name with the same content is taken for this one, received before a crash.

        Raises:
            FileExistsError: a file with other content has that name.
        """
        os.fsync(self._file)
        try:
            os.link(
                self._draft,
                self._name,
                src_dir_fd=self._folder,
                dst_dir_fd=self._folder,
                follow_symlinks=False,
            )
        except FileExistsError:
            if not self._same_as_old():
                raise
        os.fsync(self._folder)
        return self._path

    def _same_as_old(self) -> bool:
        try:
            old = os.open(self._name, _OPEN_OLD, dir_fd=self._folder)
        except OSError:
            return False
        try:
            digest = hashlib.sha256()
            if not stat.S_ISREG(os.fstat(old).st_mode):
                return False
            while block := os.read(old, _BLOCK_BYTES):
                digest.update(block)
            return digest.digest() == self._hash.digest()
        finally:
            os.close(old)


def _is_file(name: str, folder: int) -> bool:
    try:
        return stat.S_ISREG(os.lstat(name, dir_fd=folder).st_mode)
    except FileNotFoundError:
        return False
