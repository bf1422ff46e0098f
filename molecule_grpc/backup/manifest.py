"""The manifest: what a backup holds, with a checksum for each of its files.

The manifest is written last and renamed into place: a directory without one is no whole backup.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pydantic

MANIFEST: Final = "manifest.json"
FORMAT: Final = 1


class BackupError(Exception):
    """A backup cannot be taken or restored; the text says why, and what to do."""


class StoredFile(pydantic.BaseModel):
    """A file of the backup."""

    size: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> StoredFile:
        """Read the file through."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(size=path.stat().st_size, sha256=digest)


class Manifest(pydantic.BaseModel):
    """What was backed up, when, and by which program.

    Args:
        format: of the backup; a program that knows only older ones refuses.
        schema_version: number of migrations that were applied.
        schema_checksum: tells whether those were the same migrations as here.
        database_schema: the Postgres schema that holds the tables.
        absent_files: ids of uploads whose bytes had left the object store meanwhile.
        files: by their path in the backup.
    """

    format: int = FORMAT
    server_version: str
    postgres_version: str
    schema_version: int
    schema_checksum: str
    database_schema: str
    started_at: pydantic.AwareDatetime
    finished_at: pydantic.AwareDatetime
    absent_files: list[str]
    files: dict[str, StoredFile]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())

    def write(self, directory: Path) -> None:
        """Make the backup in `directory` whole, after all other files are on disk."""
        unfinished = directory / f"{MANIFEST}.new"
        with unfinished.open("w") as file:
            file.write(self.model_dump_json(indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(directory / MANIFEST)
        sync_directory(directory)

    @classmethod
    def read(cls, directory: Path) -> Manifest:
        """The manifest of a whole backup of a known format. The other files are not looked at.

        Raises:
            BackupError: there is no whole backup, or its format is unknown.
        """
        try:
            text = (directory / MANIFEST).read_bytes()
        except FileNotFoundError:
            raise BackupError(
                f"{directory} is no complete backup: it has no {MANIFEST}"
                + (", so the backup was interrupted" if directory.is_dir() else "")
            ) from None
        try:
            manifest = cls.model_validate_json(text)
        except pydantic.ValidationError as error:
            raise BackupError(f"{directory / MANIFEST} is damaged") from error
        if manifest.format > FORMAT:
            raise BackupError(
                f"the backup has format {manifest.format}, and this program knows {FORMAT}: "
                f"restore it with version {manifest.server_version} or newer"
            )
        return manifest

    def verify(self, directory: Path) -> None:
        """Compare every file with its checksum.

        Raises:
            BackupError: a file is missing, or has other bytes.
        """
        for name, stored in self.files.items():
            try:
                found = StoredFile.of(directory / name)
            except FileNotFoundError:
                raise BackupError(f"the backup is damaged: {name} is missing") from None
            if found != stored:
                raise BackupError(f"the backup is damaged: {name} has changed since it was written")


def files_below(directory: Path) -> Iterator[str]:
    """Paths of all files in a tree, relative to its root, in order."""
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            yield path.relative_to(directory).as_posix()


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    opened = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
