"""Files of a directory. Links are not followed: a template shows no file beside its directory."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from molecule_grpc.kernel.errors import Invalid, NotFound
from molecule_grpc.templates.reading.files import Collected, Files, TemplateInvalid, shown
from molecule_grpc.templates.start_files import plain_path


def read_directory(root: Path, collected: Collected | None = None) -> Files:
    """Every regular file below a directory, by path; symbolic links are left out.

    Raises:
        TemplateInvalid: there are too many files, or one cannot be read.
        FileNotFoundError: there is no such directory.
    """
    collected = collected or Collected()
    waiting = [root]
    while waiting:
        directory = waiting.pop()
        with os.scandir(directory) as entries:
            for entry in sorted(entries, key=lambda each: each.name):
                path = Path(entry.path).relative_to(root).as_posix()
                if entry.is_dir(follow_symlinks=False) and collected.wants(path):
                    waiting.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False) and collected.wants(path):
                    collected.add(path, _content(entry.path, collected.room))
    return collected.files


def child(root: Path, name: str, field: str) -> Path:
    """The directory of a template, by its name below the directory of all templates.

    Raises:
        Invalid: the name leads elsewhere.
        NotFound: TEMPLATE_NOT_FOUND.
    """
    if not plain_path(name):
        raise Invalid("must be the name of a template", field=field)
    found = root / name
    if not found.is_dir() or not found.resolve().is_relative_to(root.resolve()):
        raise NotFound(f"there is no template {name[:200]!r}", reason="TEMPLATE_NOT_FOUND")
    return found


def _content(path: str, most: int) -> bytes:
    """A file's bytes. What was replaced by a link or a device meanwhile is refused."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise TemplateInvalid(f"{shown(Path(path).name)} cannot be read") from error
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise TemplateInvalid(f"{shown(Path(path).name)} is not a file")
        return file.read(most + 1)
