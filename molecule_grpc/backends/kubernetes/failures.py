"""What the cluster says, as a typed failure with a sentence that names none of its internals."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator
from typing import Final

import aiohttp

from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason
from molecule_grpc.backends.pacing import bounded

_FORBIDDEN: Final = frozenset({401, 403})
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_INVALID: Final = frozenset({400, 413, 422})
_TOO_MANY: Final = 429


class ApiError(Exception):
    """The API server refuses a call.

    Args:
        reason: such as `NotFound`, `AlreadyExists` or `Conflict`.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def is_missing(self) -> bool:
        """Whether the cluster does not have what was named."""
        return self.status == _NOT_FOUND

    @property
    def is_conflict(self) -> bool:
        """Whether somebody else has changed the object meanwhile."""
        return self.status == _CONFLICT


def failure_of(error: ApiError) -> BackendFailure:
    """The failure that a refusal is."""
    detail = str(error)
    if re.search(r"exceeded quota|limited to \d+", error.message):
        public = "the cluster's quota has no room for the workspace"
        return BackendFailure(FailureReason.QUOTA, public, detail=detail)
    if error.status in _FORBIDDEN:
        public = "the cluster refuses the platform's account"
        return BackendFailure(FailureReason.FORBIDDEN, public, detail=detail)
    if error.status in _INVALID:
        public = "the cluster calls the workspace's definition invalid"
        return BackendFailure(FailureReason.CONFIGURATION, public, detail=detail)
    if error.status == _TOO_MANY:
        public = "the cluster asks for fewer calls"
        return BackendFailure(FailureReason.THROTTLED, public, detail=detail, retryable=True)
    public = "the cluster refuses the workspace"
    again = error.status >= 500 or error.is_conflict
    return BackendFailure(FailureReason.ENGINE, public, detail=detail, retryable=again)


def unreachable(detail: str) -> BackendFailure:
    """The API server does not answer."""
    return BackendFailure(
        FailureReason.UNREACHABLE, "the cluster does not answer", detail=detail, retryable=True
    )


@contextlib.asynccontextmanager
async def calling(deadline: float | None) -> AsyncIterator[None]:
    """Bound a call of the cluster, and translate how it fails.

    Raises:
        BackendFailure: `timeout` after `deadline` seconds; whatever else the refusal means.
    """
    try:
        async with bounded(deadline, "the cluster did not answer in time"):
            yield
    except ApiError as error:
        raise failure_of(error) from error
    except (aiohttp.ClientError, OSError) as error:
        raise unreachable(repr(error)) from error
