"""The errors of client calls, with code, reason and details of the server.

CallError
├── InvalidArgument      fix the call; `violations` names the fields
├── Unauthenticated      no token, or a wrong one
├── PermissionDenied     known, and not allowed
├── NotFound             absent, or invisible to this token
├── AlreadyExists        the name or id is taken
├── Aborted              a lost race
│   └── InboxBusy        another consumer holds the inbox
├── FailedPrecondition   the state does not permit it
│   └── Fenced           another consumer took the inbox over
├── OutOfRange           a cursor that cannot be resolved
├── ResourceExhausted    a limit or quota
├── Unavailable          nothing happened, or the outcome is unknown
├── DeadlineExceeded     no answer in time
├── Unimplemented        this installation does not offer it
└── ServerFault          a bug of the server
"""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

_DETAILS = "grpc-status-details-bin"
# Of a status that grpc.aio makes when a request cannot be written: the call has ended.
LIBRARY_FAILED = "Internal error from Core"


class TaskFailed(Exception):
    """Raised in a handler, fails the delegation with this text; the task does not come again."""


class CallError(Exception):
    """A call that failed.

    Args:
        message: one sentence from the server.
        code: canonical gRPC code.
        reason: stable name from `ErrorReason` (docs/errors.md); empty when the server was never
            reached.
        metadata: dynamic parts of the message.
        violations: (field, description) of each malformed field.
        retry_after: seconds after which a retry makes sense; None when the server gave none.
    """

    def __init__(
        self,
        message: str,
        *,
        code: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        reason: str = "",
        metadata: Mapping[str, str] | None = None,
        violations: tuple[tuple[str, str], ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.violations = violations
        self.retry_after = retry_after


class InvalidArgument(CallError):
    """The call is malformed; `violations` names the fields."""


class Unauthenticated(CallError):
    """The token is missing, unknown, revoked, or not for this."""


class PermissionDenied(CallError):
    """The caller is known and may not do this."""


class NotFound(CallError):
    """The thing is absent, or invisible to this token: both read the same."""


class AlreadyExists(CallError):
    """The name or id is taken."""


class Aborted(CallError):
    """A race was lost, or the step wants confirmation."""


class InboxBusy(Aborted):
    """Another consumer holds the inbox; `takeover=True` takes it."""

    @property
    def holder(self) -> str:
        """The consumer that holds the inbox."""
        return self.metadata.get("holder", "")


class FailedPrecondition(CallError):
    """The state does not permit the step."""


class Fenced(FailedPrecondition):
    """Another consumer took the inbox over; acks of this consumer are refused."""

    @property
    def holder(self) -> str:
        """The consumer that holds the inbox now."""
        return self.metadata.get("holder", "")


class OutOfRange(CallError):
    """The cursor cannot be resolved; start again without it."""


class ResourceExhausted(CallError):
    """A limit, quota or queue is full."""


class Unavailable(CallError):
    """Nothing happened, or the outcome is unknown: a retry may succeed."""


class DeadlineExceeded(CallError):
    """No answer came in time; the outcome is unknown."""


class Unimplemented(CallError):
    """This installation does not offer it."""


class ServerFault(CallError):
    """A bug of the server; `metadata["incident"]` is to be quoted in a report."""


_BY_CODE: dict[grpc.StatusCode, type[CallError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.ABORTED: Aborted,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.OUT_OF_RANGE: OutOfRange,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.UNIMPLEMENTED: Unimplemented,
    grpc.StatusCode.INTERNAL: ServerFault,
}
_BY_REASON: dict[str, type[CallError]] = {"INBOX_BUSY": InboxBusy, "FENCED": Fenced}
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def to_call_error(error: grpc.aio.AioRpcError) -> CallError:
    """The `CallError` of a failed gRPC call."""
    trailers = dict(error.trailing_metadata() or ())
    status = _status(trailers.get(_DETAILS))
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    retry_after = _seconds(trailers.get("retry-after"))
    for detail in status.details:
        for known in (info, bad, retry):
            detail.Unpack(known)
    if retry.HasField("retry_delay"):
        retry_after = retry.retry_delay.ToNanoseconds() / 1e9
    code, text = error.code(), error.details() or ""
    if code is grpc.StatusCode.INTERNAL and ("RST_STREAM" in text or text == LIBRARY_FAILED):
        # The gRPC library's own status, not the server's: a worker or the edge died in the middle
        # of an answer. The same call can succeed at the next connection.
        code = grpc.StatusCode.UNAVAILABLE
    return make_error(
        text or code.name.lower(),
        code=code,
        reason=info.reason,
        metadata=info.metadata,
        violations=tuple((each.field, each.description) for each in bad.field_violations),
        retry_after=retry_after,
    )


def make_error(
    message: str,
    *,
    code: grpc.StatusCode | int,
    reason: str = "",
    metadata: Mapping[str, str] | None = None,
    violations: tuple[tuple[str, str], ...] = (),
    retry_after: float | None = None,
) -> CallError:
    """A `CallError` of the class for this reason, else for this code."""
    if isinstance(code, int):
        code = _CODES.get(code, grpc.StatusCode.UNKNOWN)
    kind = _BY_REASON.get(reason) or _BY_CODE.get(code, CallError)
    return kind(
        message,
        code=code,
        reason=reason,
        metadata=metadata,
        violations=violations,
        retry_after=retry_after,
    )


def _status(details: str | bytes | None) -> status_pb2.Status:
    if not isinstance(details, bytes):
        return status_pb2.Status()
    try:
        return status_pb2.Status.FromString(details)
    except DecodeError:
        return status_pb2.Status()


def _seconds(text: str | bytes | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
