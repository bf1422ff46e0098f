"""Files of a workload by a shell inside: commands, and what exit codes and output mean."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from molecule_grpc.backends.contract.entering import FileEntry
from molecule_grpc.backends.contract.failures import (
    BackendFailure,
    DirectoryThere,
    FailureReason,
    FileMissing,
    OutsideRoot,
    TooManyFiles,
)

# Exit codes of commands: the file or directory is not there; a link leads out of the path's top
# directory; a directory is where a file is to be written.
NOT_THERE, OUTSIDE, DIRECTORY = 66, 67, 68
REFUSALS: Final[dict[int, type[Exception]]] = {
    NOT_THERE: FileMissing,
    OUTSIDE: OutsideRoot,
    DIRECTORY: DirectoryThere,
}
# Read of what a command prints that is no listing.
OUTPUT_BYTES: Final = 1024 * 1024
# Deletes the file or link `$1`.
DELETE: Final = f'[ -f "$1" ] || [ -L "$1" ] || exit {NOT_THERE}; exec rm -f -- "$1"'
# Lists what lies at most `$2` levels below the directory `$1`.
# Names may hold anything but NUL: numbers in lines, NUL, each name with its NUL, NUL.
LIST: Final = (
    f'[ -d "$1" ] || exit {NOT_THERE}; cd -- "$1" && '
    'exec find . -mindepth 1 -maxdepth "$2" -exec sh -c '
    """'stat -c "%f %s %Y" -- "$@"; printf "\\0"; printf "%s\\0" "$@"; printf "\\0"' sh {} +"""
)
_TYPE_BITS, _DIRECTORY_BITS = 0o170000, 0o040000
# Of a name with its numbers, on average.
_ENTRY_BYTES: Final = 512


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


def listing_bytes(limit: int) -> int:
    """How much of a listing is read: room for `limit` files, and 1 MiB at least."""
    return max(OUTPUT_BYTES, limit * _ENTRY_BYTES)


def is_read_only(errors: bytes | bytearray) -> bool:
    """Whether a command says that the root or a mount may not be written."""
    return b"read-only file system" in errors.lower()


def _entry(numbers: bytes, name: bytes) -> FileEntry:
    mode, size, moment = numbers.split()
    directory = int(mode, 16) & _TYPE_BITS == _DIRECTORY_BITS
    return FileEntry(
        name.decode("utf-8", "surrogateescape").removeprefix("./"),
        0 if directory else int(size),
        directory,
        datetime.fromtimestamp(int(moment), UTC),
    )
