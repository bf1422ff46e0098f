"""Files of a workload by a shell inside: the command that lists them, and what its output means."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from molecule_grpc.backends.contract import (
    BackendFailure,
    FailureReason,
    FileEntry,
    TooManyFiles,
)

# Exit code of a command whose file or directory is not there.
NOT_THERE: Final = 66
# Names may hold anything but NUL: numbers in lines, NUL, each name with its NUL, NUL.
LIST: Final = (
    f'[ -d "$1" ] || exit {NOT_THERE}; cd -- "$1" && '
    'exec find . -mindepth 1 -maxdepth "$2" -exec sh -c '
    """'stat -c "%f %s %Y" -- "$@"; printf "\\0"; printf "%s\\0" "$@"; printf "\\0"' sh {} +"""
)
_TYPE_BITS, _DIRECTORY_BITS = 0o170000, 0o040000


def entries_of(printed: bytes, path: str, limit: int) -> list[FileEntry]:
    """What `LIST` printed of the directory `path`, batch by batch.

    Raises:
        TooManyFiles: more than `limit`.
        BackendFailure: files came or went while they were listed.
    """
    entries: list[FileEntry] = []
    fields = iter(printed.split(b"\0")[:-1])
    for numbers in fields:
        lines = numbers.splitlines()
        names = list(iter(fields.__next__, b""))
        if len(lines) != len(names):
            raise BackendFailure(
                FailureReason.ENGINE, "the files changed while they were listed", retryable=True
            )
        entries += map(_entry, lines, names)
    if len(entries) > limit:
        raise TooManyFiles(path)
    return entries


def _entry(numbers: bytes, name: bytes) -> FileEntry:
    mode, size, moment = numbers.split()
    directory = int(mode, 16) & _TYPE_BITS == _DIRECTORY_BITS
    return FileEntry(
        name.decode("utf-8", "surrogateescape").removeprefix("./"),
        0 if directory else int(size),
        directory,
        datetime.fromtimestamp(int(moment), UTC),
    )
