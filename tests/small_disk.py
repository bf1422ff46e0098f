"""A small file system of its own, for tests that fill a disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path


class CannotMountError(Exception):
    """This process may not mount file systems."""


@contextlib.contextmanager
def small_disk(directory: Path, mebibytes: int) -> Iterator[Path]:
    """Mount a file system in memory at `directory` while the block lasts.

    Raises:
        CannotMountError: this process may not.
    """
    directory.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m,mode=0755", "tmpfs", str(directory)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotMountError(done.stderr)
    try:
        yield directory
    finally:
        # Lazily: a process of the test that is just being killed may still have files open.
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def fill(file: Path, *, leave: int = 0) -> None:
    """Take what is free on a file's disk but for `leave` bytes. Delete the file to free it."""
    with file.open("wb") as ballast:
        while (rest := shutil.disk_usage(file).free - leave) > 0:
            size = os.fstat(ballast.fileno()).st_size
            try:
                os.posix_fallocate(ballast.fileno(), size, rest)
            except OSError:  # somebody else was quicker
                continue
