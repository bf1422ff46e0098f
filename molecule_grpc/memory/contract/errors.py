"""How a store of memories says no."""

from __future__ import annotations

import enum
from typing import Any

from molecule_grpc.memory.contract import fields as read


class ErrorCode(enum.StrEnum):
    """The values of `code` in error envelopes of the contract."""

    BAD_REQUEST = "bad_request"
    NOT_FOUND = "not_found"
    FORBIDDEN = "forbidden"
    INTERNAL = "internal"
    UNAVAILABLE = "unavailable"


STATUSES = {
    ErrorCode.BAD_REQUEST: 400,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.FORBIDDEN: 403,
    ErrorCode.INTERNAL: 500,
    ErrorCode.UNAVAILABLE: 503,
}


class StoreError(Exception):
    """A store refused, or failed.

    Args:
        message: for operators; of a foreign store, so never shown to agents as it is.
        status: of HTTP, where there was one; 0 when nothing was answered.
    """

    def __init__(self, code: ErrorCode, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = STATUSES[code] if status is None else status

    @property
    def counts(self) -> bool:
        """Whether the store itself failed, and not the request."""
        return self.status >= 500 or self.status == 0

    def json(self) -> dict[str, Any]:
        return {"code": self.code.value, "message": self.message}


def refusal(error: read.ContractInvalid) -> StoreError:
    """A broken rule of the contract as a store answers it."""
    return StoreError(ErrorCode.BAD_REQUEST, str(error))


def code_of(status: int) -> ErrorCode:
    """The code for an answer that names none."""
    if status == 404:
        return ErrorCode.NOT_FOUND
    if status == 403:
        return ErrorCode.FORBIDDEN
    return ErrorCode.INTERNAL if status >= 500 else ErrorCode.BAD_REQUEST
