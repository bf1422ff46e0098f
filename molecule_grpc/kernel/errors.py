"""The errors a caller can meet. They know nothing of gRPC or HTTP.

    MoleculeError
    ├── Invalid            wrong on its face; names the field
    ├── Unauthenticated    no token, or a wrong one
    ├── Denied             known caller, not allowed
    ├── NotFound           absent, or invisible to this caller
    ├── AlreadyExists      the id or name is taken by something else
    ├── Aborted            a lost race, or a step that must be confirmed first
    ├── Conflict           the state does not permit it
    ├── OutOfRange         a cursor that cannot be resolved
    ├── Exhausted          a limit or quota
    ├── Unavailable        safe to retry
    └── Unsupported        this installation does not offer it

`server/status.py` holds the only table from these kinds to gRPC codes and HTTP statuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class MoleculeError(Exception):
    """Base of every error that may be shown to a caller.

    `message` is written for the caller. Internal detail goes to the log, through
    `raise ... from error`.

    Args:
        message: one sentence for the caller.
        reason: stable name from `moleculeai.error.v1.ErrorReason`, without its prefix.
        metadata: dynamic parts of the message, as strings, for `ErrorInfo.metadata`.
        body: extra keys of the REST error body beside `error`.
        retry_after: seconds after which a retry makes sense.
        headers: response headers that the error comes with, by lower-case name.
    """

    default_reason: ClassVar[str] = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.metadata = dict(metadata or {})
        self.body = dict(body or {})
        self.retry_after = retry_after
        self.headers = dict(headers or {})


class Invalid(MoleculeError):
    """The request is wrong on its face. `field` is the path of the offending field."""

    default_reason = "INVALID_ARGUMENT"

    def __init__(self, message: str, *, field: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.violations: list[tuple[str, str]] = [(field, message)] if field else []


class Unauthenticated(MoleculeError):
    """The token is missing or invalid."""

    default_reason = "UNAUTHENTICATED"


class Denied(MoleculeError):
    """The caller is known and may not do this."""

    default_reason = "PERMISSION_DENIED"


class NotFound(MoleculeError):
    """Absent, or invisible to this caller: both read the same."""

    default_reason = "NOT_FOUND"


class AlreadyExists(MoleculeError):
    """The name or id belongs to something else."""

    default_reason = "ALREADY_EXISTS"


class Aborted(MoleculeError):
    """A lost race, or a step that wants confirmation."""

    default_reason = "ABORTED"


class Conflict(MoleculeError):
    """The current state does not permit the step."""

    default_reason = "FAILED_PRECONDITION"


class OutOfRange(MoleculeError):
    """A cursor that cannot be resolved."""

    default_reason = "CURSOR_UNKNOWN"


class Exhausted(MoleculeError):
    """A limit, quota or queue is full. `quota` is whose it is, and what may be used of it."""

    default_reason = "RESOURCE_EXHAUSTED"

    def __init__(
        self, message: str, *, quota: tuple[str, str] | None = None, **details: Any
    ) -> None:
        super().__init__(message, **details)
        self.quota = quota


class Unavailable(MoleculeError):
    """Nothing happened, or the outcome is unknown and a retry is safe."""

    default_reason = "UNAVAILABLE"


class Unsupported(MoleculeError):
    """This installation does not offer it."""

    default_reason = "UNIMPLEMENTED"
