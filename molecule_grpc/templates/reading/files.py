"""Files of a template in memory, by path below its root, and how many of them there may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.templates.start_files import plain_path

Files: TypeAlias = Mapping[str, bytes]

MAX_FILES: Final = 4_000
MAX_BYTES: Final = 16 * 1024 * 1024
# Of other programs, never of a template.
_LEFT_OUT: Final = frozenset({".git", "node_modules", "__pycache__", "__MACOSX", ".DS_Store"})


class TemplateInvalid(Invalid):
    """A template cannot be read. The message says where."""

    default_reason = "TEMPLATE_INVALID"


class Collected:
    """Files as they are read, refused as soon as there are too many.

    Args:
        max_files, max_bytes: the most there may be.
    """

    def __init__(self, max_files: int = MAX_FILES, max_bytes: int = MAX_BYTES) -> None:
        self.files: dict[str, bytes] = {}
        self._max_files = max_files
        self.room = max_bytes

    def wants(self, path: str) -> bool:
        """Whether a file belongs to the template.

        Raises:
            TemplateInvalid: the path is not plain and relative, or comes twice.
        """
        if not plain_path(path):
            raise TemplateInvalid(f"{shown(path)}: a path must be relative, without . and ..")
        if _LEFT_OUT.intersection(path.split("/")):
            return False
        if path in self.files:
            raise TemplateInvalid(f"{shown(path)} is there twice")
        if len(self.files) >= self._max_files:
            raise TemplateInvalid(f"a template can have {self._max_files} files at most")
        return True

    def add(self, path: str, content: bytes) -> None:
        """Keep a file that `wants` wanted.

        Raises:
            TemplateInvalid: all files together are too large.
        """
        self.room -= len(content)
        if self.room < 0:
            raise TemplateInvalid("the files of the template are too large together")
        self.files[path] = content


def shown(path: str) -> str:
    """A path as an error names it."""
    return repr(path[:200])


def without_top(files: Files, wanted: tuple[str, ...]) -> Files:
    """Files of an archive without the only directory that holds all of them.

    Args:
        wanted: names of files; with one of them at the top nothing is taken away.
    """
    tops = {path.partition("/")[0] for path in files}
    if len(tops) != 1 or any(name in files for name in wanted):
        return files
    return {path.partition("/")[2]: content for path, content in files.items() if "/" in path}
