"""The one table from errors to gRPC codes, HTTP statuses and bodies."""

from __future__ import annotations

import enum
import json
import urllib.parse
from dataclasses import dataclass, field

from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from molecule_grpc.kernel import errors
from molecule_grpc.kernel.text import clean, cut_bytes

DOMAIN = "moleculeai.dev"
INTERNAL_REASON = "INTERNAL"

# Message and details travel in headers, and a client drops a response whose headers exceed 8 KiB.
# Percent encoding makes three bytes of one, base64 four of three.
_MESSAGE_BYTES = 1024
_VIOLATIONS = 8
_VIOLATION_BYTES = 128


class Code(enum.IntEnum):
    """Canonical status codes of gRPC."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


# Kind → (gRPC code, HTTP status). Subclasses inherit the row of their nearest base.
KINDS: dict[type[errors.MoleculeError], tuple[Code, int]] = {
    errors.Invalid: (Code.INVALID_ARGUMENT, 400),
    errors.Unauthenticated: (Code.UNAUTHENTICATED, 401),
    errors.Denied: (Code.PERMISSION_DENIED, 403),
    errors.NotFound: (Code.NOT_FOUND, 404),
    errors.AlreadyExists: (Code.ALREADY_EXISTS, 409),
    errors.Aborted: (Code.ABORTED, 409),
    errors.Conflict: (Code.FAILED_PRECONDITION, 400),
    errors.OutOfRange: (Code.OUT_OF_RANGE, 410),
    errors.Exhausted: (Code.RESOURCE_EXHAUSTED, 429),
    errors.Unavailable: (Code.UNAVAILABLE, 503),
    errors.Unsupported: (Code.UNIMPLEMENTED, 501),
}

# Reasons with an HTTP status of their own: existing clients branch on these statuses.
HTTP_BY_REASON: dict[str, int] = {
    "WORKSPACE_REMOVED": 410,
    "BODY_TOO_LARGE": 413,
    "BUNDLE_TOO_LARGE": 413,
    "ANSWER_TOO_LARGE": 500,
    "SECRET_UNREADABLE": 500,
    "ENV_MISSING": 412,
    "FILE_TOO_LARGE": 413,
    "RANGE_NOT_SATISFIABLE": 416,
    "UPLOAD_STALLED": 408,
    "AGENT_UNREACHABLE": 502,
    "BACKEND_UNAVAILABLE": 502,
    "URL_NOT_ROUTABLE": 502,
    "ANSWER_UNREADABLE": 502,
    "BUDGET_EXCEEDED": 402,
    "NO_DISPATCH_PATH": 422,
    "FENCED": 409,
    "DEADLINE_EXCEEDED": 504,
}


@dataclass(slots=True)
class CallFailure(Exception):
    """The end of a call without an answer, rendered for the wire.

    Args:
        details: serialised `google.rpc.Status`, for `grpc-status-details-bin`; may be empty.
        http_status: for the edge.
        body: the REST body.
        headers: what REST clients get beside the body, gRPC clients as trailers.
    """

    code: Code
    message: str
    reason: str
    details: bytes
    http_status: int
    body: dict[str, object]
    retry_after: float | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def trailers(self, *, rest: bool) -> list[tuple[str, str | bytes]]:
        """Trailing metadata: rich details for gRPC callers, the REST face for the edge."""
        trailers: list[tuple[str, str | bytes]] = []
        if self.details:
            trailers.append(("grpc-status-details-bin", self.details))
        if self.retry_after is not None:
            trailers.append(("retry-after", str(max(1, round(self.retry_after)))))
        trailers.extend(self.headers.items())
        if rest:
            trailers.append(("x-http-code", str(self.http_status)))
            trailers.append(("x-error-body", _header_body(self.body)))
        return trailers


def render(error: errors.MoleculeError) -> CallFailure:
    """The failure of an expected error: code, HTTP status, texts and details."""
    code, http_status = _row(type(error))
    message = cut_bytes(clean(error.message), _MESSAGE_BYTES)
    http_status = HTTP_BY_REASON.get(error.reason, http_status)
    body: dict[str, object] = {"error": message, **error.body}
    if error.retry_after is not None:
        body.setdefault("retry_after", max(1, round(error.retry_after)))
    if error.reason == "DATABASE_UNAVAILABLE":
        body["code"] = "platform_unavailable"
    return CallFailure(
        code=code,
        message=message,
        reason=error.reason,
        details=_details(code, message, error),
        http_status=http_status,
        body=body,
        retry_after=error.retry_after,
        headers=error.headers,
    )


def render_bug(incident: str) -> CallFailure:
    """The failure of an unexpected exception: an incident number to quote, and nothing internal."""
    error = errors.MoleculeError(
        f"internal error, incident {incident}", metadata={"incident": incident}
    )
    return CallFailure(
        code=Code.INTERNAL,
        message=error.message,
        reason=INTERNAL_REASON,
        details=_details(Code.INTERNAL, error.message, error),
        http_status=500,
        body={"error": error.message},
    )


def render_late() -> CallFailure:
    """The failure of a call whose client waits no longer, in the words of every gRPC library."""
    return CallFailure(
        code=Code.DEADLINE_EXCEEDED,
        message="Deadline Exceeded",
        reason="DEADLINE_EXCEEDED",
        details=b"",
        http_status=504,
        body={"error": "Deadline Exceeded"},
    )


def _row(kind: type[errors.MoleculeError]) -> tuple[Code, int]:
    for base in kind.__mro__:
        if base in KINDS:
            return KINDS[base]
    return Code.INTERNAL, 500


def _details(code: Code, message: str, error: errors.MoleculeError) -> bytes:
    status = status_pb2.Status(code=int(code), message=message)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    status.details.append(_packed(info))
    violations = getattr(error, "violations", None)
    if violations:
        bad = error_details_pb2.BadRequest()
        for field, description in violations[:_VIOLATIONS]:
            bad.field_violations.add(
                field=cut_bytes(field, _VIOLATION_BYTES),
                description=cut_bytes(clean(description), _VIOLATION_BYTES),
            )
        status.details.append(_packed(bad))
    if isinstance(error, errors.Exhausted) and error.quota is not None:
        subject, description = error.quota
        failure = error_details_pb2.QuotaFailure()
        failure.violations.add(
            subject=cut_bytes(clean(subject), _VIOLATION_BYTES),
            description=cut_bytes(clean(description), _VIOLATION_BYTES),
        )
        status.details.append(_packed(failure))
    if error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(int(error.retry_after * 1000))
        status.details.append(_packed(error_details_pb2.RetryInfo(retry_delay=delay)))
    data: bytes = status.SerializeToString()
    return data


def _packed(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def _header_body(body: dict[str, object]) -> str:
    return urllib.parse.quote(json.dumps(body, separators=(",", ":")), safe="")
