"""How errors read on the wire: details for gRPC callers, statuses and bodies for REST."""

from __future__ import annotations

import json
import urllib.parse
from typing import TypeVar

import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from molecule_grpc.kernel import errors
from molecule_grpc.server.status import (
    DOMAIN,
    HTTP_BY_REASON,
    KINDS,
    CallFailure,
    Code,
    render,
    render_bug,
)

M = TypeVar("M", bound=Message)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_keeps_its_row(kind: type[errors.MoleculeError]) -> None:
    failure = render(kind("no"))
    assert (failure.code, failure.http_status) == KINDS[kind]
    assert failure.reason == kind.default_reason
    assert failure.body == {"error": "no"}


def test_a_kind_of_a_kind_reads_like_its_base() -> None:
    class Gone(errors.NotFound):
        """A feature's own error."""

    assert render(Gone("no")).code is Code.NOT_FOUND


@pytest.mark.parametrize(("reason", "status"), HTTP_BY_REASON.items())
def test_a_reason_may_have_an_http_status_of_its_own(reason: str, status: int) -> None:
    assert render(errors.NotFound("no", reason=reason)).http_status == status


def test_the_details_carry_reason_domain_and_metadata() -> None:
    failure = render(errors.Aborted("no", reason="INVALID_TRANSITION", metadata={"from": "a"}))
    info = _detail(failure, error_details_pb2.ErrorInfo())
    assert (info.reason, info.domain, info.metadata) == (
        "INVALID_TRANSITION",
        DOMAIN,
        {"from": "a"},
    )
    status = status_pb2.Status.FromString(failure.details)
    assert (status.code, status.message) == (Code.ABORTED, "no")


def test_a_quota_is_named_with_whose_it_is() -> None:
    error = errors.Exhausted("full", quota=("organization:a", "searches: 2"), retry_after=2)
    failure = render(error)
    [violation] = _detail(failure, error_details_pb2.QuotaFailure()).violations
    assert (violation.subject, violation.description) == error.quota
    assert _detail(failure, error_details_pb2.RetryInfo()).retry_delay.seconds == 2
    assert ("retry-after", "2") in failure.trailers(rest=True)


def test_the_fields_at_fault_are_named() -> None:
    bad = _detail(render(errors.Invalid("too long", field="name")), error_details_pb2.BadRequest())
    assert [(v.field, v.description) for v in bad.field_violations] == [("name", "too long")]


def test_a_pause_before_a_retry_is_told_to_everybody() -> None:
    failure = render(errors.Unavailable("later", retry_after=2.4))
    assert _detail(failure, error_details_pb2.RetryInfo()).retry_delay.ToMilliseconds() == 2400
    assert failure.body["retry_after"] == 2
    assert dict(failure.trailers(rest=False))["retry-after"] == "2"


def test_an_outage_of_the_database_has_the_code_that_clients_know() -> None:
    body = render(errors.Unavailable("no", reason="DATABASE_UNAVAILABLE")).body
    assert body["code"] == "platform_unavailable"


def test_a_bug_tells_a_number_and_nothing_else() -> None:
    failure = render_bug("abc123")
    assert (failure.code, failure.http_status) == (Code.INTERNAL, 500)
    assert failure.body == {"error": "internal error, incident abc123"}
    assert _detail(failure, error_details_pb2.ErrorInfo()).metadata == {"incident": "abc123"}


def test_grpc_callers_never_see_the_face_of_rest() -> None:
    assert [name for name, _ in render(errors.NotFound("no")).trailers(rest=False)] == [
        "grpc-status-details-bin"
    ]


def test_the_edge_gets_status_and_body() -> None:
    error = errors.NotFound("gone é\n", reason="WORKSPACE_REMOVED", body={"deleted": True})
    trailers = dict(render(error).trailers(rest=True))
    assert trailers["x-http-code"] == "410"
    assert _body(trailers) == {"error": "gone é\n", "deleted": True}


@pytest.mark.parametrize("character", ["x", "é", "🙂", "\n", "\x7f", "%", '"', "\\", "\x00"])
def test_a_long_text_never_bursts_the_headers(character: str) -> None:
    """A client drops a response whose headers exceed its bound: 8 KiB, at the edge 60 KiB."""
    error = errors.Invalid(character * 100_000, field=character * 1000)
    failure = render(error)
    percent_encoded = 3 * len(failure.message.encode())
    base64_encoded = len(failure.details) * 4 // 3
    assert percent_encoded + base64_encoded < 8000
    assert len(dict(failure.trailers(rest=True))["x-error-body"]) < 16_000


def test_many_fields_at_fault_never_burst_the_headers() -> None:
    error = errors.Invalid("no")
    error.violations = [(f"items[{n}]", "must be a valid UUID") for n in range(1000)]
    failure = render(error)
    assert len(failure.details) < 2048
    assert _detail(failure, error_details_pb2.BadRequest()).field_violations


def _detail(failure: CallFailure, detail: M) -> M:
    status = status_pb2.Status.FromString(failure.details)
    assert any(packed.Unpack(detail) for packed in status.details)
    return detail


def _body(trailers: dict[str, str | bytes]) -> object:
    return json.loads(urllib.parse.unquote(str(trailers["x-error-body"])))
