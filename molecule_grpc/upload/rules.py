"""Decides which way files go, how much is too much, and which part of a file is meant."""

from __future__ import annotations

import enum
import posixpath
import re
from dataclasses import dataclass

from molecule_grpc.kernel.errors import Invalid, OutOfRange
from molecule_grpc.upload.values import Conditions

MIB = 1024 * 1024
MAX_FILES = 64
MAX_FIELDS = 32
MAX_ATTACHMENTS = 10

_REQUEST_BYTES = 50 * MIB
# Boundaries, headers and small fields around the files of a request.
_FRAMING_BYTES = MIB
_DOWNLOADABLE = ("/configs", "/workspace", "/home", "/plugins")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII | re.IGNORECASE)
# Statuses of HTTP for conditions that a file does not meet.
NOT_MODIFIED = 304
MISMATCH = 412
_DIGITS = 18


class Route(enum.Enum):
    """Which way files reach a workspace."""

    STAGE = enum.auto()
    FORWARD = enum.auto()
    NOT_YET = enum.auto()
    """The workspace is starting up: a retry helps."""
    NEVER = enum.auto()
    """No way exists: a retry does not help."""


def route(mode: str | None, url: str, *, staging: bool) -> Route:
    """Which way files reach a workspace.

    Args:
        mode: its stored delivery mode; None in rows of old installations.
        url: where its agent listens; empty for nowhere.
        staging: whether this installation stages files.
    """
    if mode == "poll" and staging:
        return Route.STAGE
    if url:
        return Route.FORWARD
    return Route.NOT_YET if mode == "push" else Route.NEVER


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """How much one request may bring. Sizes are in bytes."""

    per_file: int
    files: int = MAX_FILES
    fields: int = MAX_FIELDS

    @property
    def per_request(self) -> int:
        """All files of a request together."""
        return max(_REQUEST_BYTES, self.per_file)

    @property
    def per_body(self) -> int:
        """A whole multipart body."""
        return self.per_request + _FRAMING_BYTES


def too_large(filename: str, size: int, limit: int) -> Invalid:
    """A file has more than `limit` bytes; `size` of them were seen or announced."""
    facts: dict[str, object] = {"filename": filename, "size": size, "max": limit}
    return Invalid(
        "file exceeds per-file cap",
        reason="FILE_TOO_LARGE",
        metadata={name: str(value) for name, value in facts.items()},
        body=facts,
    )


def body_too_large(limit: int) -> Invalid:
    """A request brings more than `limit` bytes in all."""
    return Invalid(
        f"the files exceed {limit} bytes",
        reason="BODY_TOO_LARGE",
        metadata={"max": str(limit)},
        body={"max": limit},
    )


def too_many_files(limits: UploadLimits) -> Invalid:
    """More files than one request may bring."""
    return Invalid(f"too many files (limit {limits.files})", field="files")


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """First byte and end of the part that a Range header names; None for the whole.

    A header that is malformed, or names several parts, means the whole: HTTP lets servers ignore
    the header.

    Raises:
        OutOfRange: RANGE_NOT_SATISFIABLE: the part begins behind the last byte.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        last = min(int(match[2][:_DIGITS]), size)
        return part(size - last, last, size)
    start = int(match[1][:_DIGITS])
    if not match[2]:
        return part(start, 0, size)
    stop = int(match[2][:_DIGITS]) + 1
    return None if stop <= start else part(start, stop - start, size)


def unmet(etag: str, conditions: Conditions) -> int | None:
    """The HTTP status of a request whose conditions rule a file out; None when they do not."""
    if conditions.if_match is not None and etag not in _tags(conditions.if_match, etag):
        return MISMATCH
    if conditions.if_none_match is not None:
        # A weak tag names the same bytes here.
        tags = [tag.removeprefix("W/") for tag in _tags(conditions.if_none_match, etag)]
        return NOT_MODIFIED if etag in tags else None
    return None


def _tags(header: str, etag: str) -> list[str]:
    """The ETags of a list; `*` stands for whatever there is. Our ETags hold no comma."""
    return [etag] if header.strip() == "*" else [tag.strip() for tag in header.split(",")]


def part(offset: int, length: int, size: int) -> tuple[int, int]:
    """First byte and end of a part; `length` 0 means all that follows.

    Raises:
        OutOfRange: RANGE_NOT_SATISFIABLE: the part begins behind the last byte.
    """
    if offset >= size:
        raise OutOfRange(
            f"the file has {size} bytes",
            reason="RANGE_NOT_SATISFIABLE",
            metadata={"size": str(size)},
            headers={"content-range": f"bytes */{size}"},
        )
    return offset, min(offset + length, size) if length else size


def check_download_path(path: str) -> None:
    """Raise unless an agent's file of this path may be asked for.

    Raises:
        Invalid: the path is missing, relative, not canonical, or outside of the four folders.
    """
    if not path:
        raise Invalid("path query required", field="path")
    if not path.startswith("/"):
        raise Invalid("path must be absolute", field="path")
    if ".." in path or "\x00" in path or path != posixpath.normpath(path) or path[:2] == "//":
        raise Invalid("invalid path", field="path")
    if not any(path.startswith(f"{folder}/") for folder in _DOWNLOADABLE):
        raise Invalid(f"path must be under one of {', '.join(_DOWNLOADABLE)}", field="path")


def retention_seconds(seconds: float | None, default: float = 3600.0) -> float:
    """How long acknowledged files stay: None means the default, a negative number means zero."""
    return default if seconds is None else max(0.0, seconds)
