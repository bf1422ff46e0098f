"""The errors that callers read, each made in one place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import structlog

from molecule_grpc.backends.contract.failures import (
    BackendFailure,
    DirectoryThere,
    FileMissing,
    OutsideRoot,
    Refused,
    RootReadOnly,
    TooManyFiles,
    WorkloadMissing,
)
from molecule_grpc.kernel.errors import (
    Aborted,
    Conflict,
    Invalid,
    MoleculeError,
    NotFound,
    Unavailable,
    Unsupported,
)

log = structlog.get_logger(__name__)


def no_workspace() -> NotFound:
    """The workspace is unknown or removed."""
    return NotFound("workspace not found", reason="WORKSPACE_NOT_FOUND")


def external() -> Conflict:
    """The platform does not run this agent."""
    return Conflict(
        "an external workspace runs outside of the platform, which reaches none of its files, logs "
        "and terminals",
        reason="RUNTIME_EXTERNAL",
        body={"runtime": "external"},
    )


def nothing_there() -> Conflict:
    """Nothing of the workspace runs or is kept."""
    return Conflict("nothing of this workspace runs or is kept", reason="WORKLOAD_MISSING")


def too_large(path: str, size: int, most: int) -> Invalid:
    """A file exceeds a limit."""
    return Invalid(
        f"the file exceeds {most} bytes",
        reason="FILE_TOO_LARGE",
        metadata={"filename": path, "size": str(size), "max": str(most)},
        body={"filename": path, "size": size, "max": most},
    )


def not_text() -> Conflict:
    """JSON cannot hold the file."""
    return Conflict("the file is no UTF-8 text: read it with raw=true", reason="FILE_NOT_TEXT")


def stalled() -> Aborted:
    """The client stopped sending."""
    return Aborted("the upload stalled", reason="UPLOAD_STALLED")


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn exceptions of a backend into errors for the caller, with code and reason."""
    try:
        yield
    except (
        BackendFailure,
        DirectoryThere,
        FileMissing,
        OutsideRoot,
        Refused,
        RootReadOnly,
        TooManyFiles,
        WorkloadMissing,
    ) as error:
        raise _told(error) from error


def _told(error: Exception) -> MoleculeError:
    match error:
        case BackendFailure():
            # Without the engine's own words, which may name files.
            log.warning("a backend failed", reason=error.reason.value, failure=error.public)
            return Unavailable(
                error.public, reason="BACKEND_UNAVAILABLE", metadata={"cause": error.reason.value}
            )
        case Refused():
            return Unsupported(
                str(error), reason="BACKEND_LACKS", metadata={"backend": error.backend.value}
            )
        case WorkloadMissing():
            return nothing_there()
    return _of_file(error)


def _of_file(error: Exception) -> MoleculeError:
    match error:
        case FileMissing():
            return NotFound("no such file in the workspace", reason="FILE_NOT_FOUND")
        case OutsideRoot():
            return Conflict("a link leads out of the root", reason="FILE_OUTSIDE_ROOT")
        case DirectoryThere():
            return Conflict("a directory has this path", reason="FILE_IS_DIRECTORY")
        case RootReadOnly():
            return _read_only(str(error))
    return Conflict(
        "too many files lie below this directory: name a lower one, or less depth",
        reason="TOO_MANY_FILES",
    )


def _read_only(path: str) -> Conflict:
    root = f"/{path[1:].partition('/')[0]}"
    return Conflict(
        f"the root {root} of this workspace may not be written: only its volumes may",
        reason="ROOT_READ_ONLY",
        metadata={"root": root},
        body={"root": root},
    )
