"""What every call goes through, without a host: admission, answers, failures, counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import asyncpg
import pytest
import structlog
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from moleculeai.admin.v1 import admin_service_pb2 as admin
from moleculeai.delegation.v1 import delegation_service_pb2 as delegation
from moleculeai.delegation.v1 import inbox_pb2
from prometheus_client import REGISTRY

from molecule_grpc.auth.authenticator import Authenticator
from molecule_grpc.db.disk import DiskSpace
from molecule_grpc.db.pool import Pool
from molecule_grpc.kernel.errors import Aborted, NotFound
from molecule_grpc.kernel.processor import ProcessorTime, ProcessorTurns
from molecule_grpc.server.audit import AuditLog
from molecule_grpc.server.call import ORIGINAL_PATH, Call
from molecule_grpc.server.methods import Method, bind
from molecule_grpc.server.metrics import CallMetrics
from molecule_grpc.server.pipeline import Pipeline
from molecule_grpc.server.status import CallFailure, Code
from molecule_grpc.server.validation import Validator
from molecule_grpc.settings.audit import AuditSettings
from tests.settings import settings_of

TOKEN = "operator-token"
WORKSPACE = "11111111-1111-7111-8111-111111111111"
ADMIN = admin.DESCRIPTOR.services_by_name["AdminService"]
DELEGATION = delegation.DESCRIPTOR.services_by_name["DelegationService"]
GOOD = admin.CreateOrganizationRequest(slug="acme")
BAD = admin.CreateOrganizationRequest(slug="not a slug", name="x" * 300)


async def one(request: Message) -> AsyncIterator[Message]:
    """A stream of one request."""
    yield request


def a_method(service: ServiceDescriptor, name: str, handler: Callable[..., Any]) -> Method:
    """One RPC, served by `handler`."""

    class Handlers:
        def __getattr__(self, _: str) -> Callable[..., Any]:
            return handler

    return next(method for method in bind([(service, Handlers())]) if method.name == name)


def a_pipeline(method: Method, **changes: Any) -> Pipeline:
    """A pipeline that knows the operator's token; nothing here asks the database."""
    parts: dict[str, Any] = {
        "authenticator": Authenticator(
            cast("Pool", None), settings_of(auth_admin_token=TOKEN).auth
        ),
        "validator": Validator([method.request_type]),
        "metrics": CallMetrics([method.path]),
        "audit": AuditLog(cast("Pool", None), AuditSettings()),
        "disk": DiskSpace(None, 0),
        "processor": ProcessorTurns(ProcessorTime(1000), most_waiting=1, patience=1.0),
    }
    return Pipeline(**parts | changes)


def a_call(*, token: str | None = TOKEN, rest: bool = False) -> Call:
    metadata = {"x-request-id": "r-1", "x-client-trace-id": "mine"}
    if token:
        metadata["authorization"] = f"Bearer {token}"
    if rest:
        metadata[ORIGINAL_PATH] = "/somewhere"
    return Call(metadata=metadata)


async def unary(handler: Callable[..., Any], request: Message, call: Call) -> Message:
    method = a_method(ADMIN, "CreateOrganization", handler)
    data = await a_pipeline(method).unary(method, request, call)
    return method.response_type.FromString(data)


async def failure_of(
    handler: Callable[..., Any], request: Message = GOOD, call: Call | None = None
) -> CallFailure:
    with pytest.raises(CallFailure) as caught:
        await unary(handler, request, call or a_call())
    return caught.value


async def answer(request: Message, call: Call) -> Message:
    return admin.Organization(slug="acme")


async def test_an_answer_that_cannot_be_sent_is_a_failure_with_a_reason_and_counted_so() -> None:
    """Not an OK that the host then drops, nor a 429 that a client repeats."""

    async def long_answer(request: Message, call: Call) -> Message:
        return admin.Organization(name="x" * 1000)

    method = a_method(ADMIN, "CreateOrganization", long_answer)
    pipeline = a_pipeline(method, max_answer_bytes=999)
    before = counted("RESOURCE_EXHAUSTED")
    with pytest.raises(CallFailure) as caught:
        await pipeline.unary(method, GOOD, a_call())
    failure = caught.value
    assert (failure.code, failure.reason) == (Code.RESOURCE_EXHAUSTED, "ANSWER_TOO_LARGE")
    assert failure.http_status == 500
    assert failure.body == {"error": "the answer exceeds 999 bytes"}
    assert counted("RESOURCE_EXHAUSTED") == before + 1


async def test_a_frame_that_cannot_be_sent_ends_its_stream_with_a_reason() -> None:
    async def frames(request: Message, call: Call) -> AsyncIterator[Message]:
        yield delegation.StreamInboxResponse(item=inbox_pb2.InboxItem(text="x" * 1000))

    method = a_method(DELEGATION, "StreamInbox", frames)
    pipeline = a_pipeline(method, max_answer_bytes=999)
    request = delegation.StreamInboxRequest(workspace_id=WORKSPACE)
    with pytest.raises(CallFailure) as caught:
        async for _ in pipeline.stream(method, one(request), a_call()):
            pass
    assert caught.value.reason == "ANSWER_TOO_LARGE"


async def never(request: Message, call: Call) -> Message:
    raise AssertionError("a call that is not admitted must not reach its handler")


async def test_a_good_call_reaches_its_handler() -> None:
    call = a_call()
    assert await unary(answer, GOOD, call) == admin.Organization(slug="acme")
    assert call.principal.administers


async def test_a_stranger_learns_nothing_of_what_is_wrong_with_the_request() -> None:
    failure = await failure_of(never, BAD, a_call(token=None))
    assert (failure.code, failure.body) == (Code.UNAUTHENTICATED, {"error": "admin auth required"})


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic abc", "operator-token"])
async def test_a_header_that_is_no_bearer_token_is_refused(header: str) -> None:
    call = Call(metadata={"authorization": header})
    assert (await failure_of(never, GOOD, call)).code is Code.UNAUTHENTICATED


async def test_every_field_at_fault_is_named() -> None:
    failure = await failure_of(never, BAD)
    bad = error_details_pb2.BadRequest()
    status = status_pb2.Status.FromString(failure.details)
    assert any(detail.Unpack(bad) for detail in status.details)
    assert [violation.field for violation in bad.field_violations] == ["slug", "name"]
    assert failure.code is Code.INVALID_ARGUMENT


async def test_an_item_at_fault_is_numbered() -> None:
    ids = [WORKSPACE, "not an id"]
    request = delegation.AckInboxRequest(workspace_id=WORKSPACE, activity_ids=ids)
    method = a_method(DELEGATION, "AckInbox", never)
    with pytest.raises(CallFailure) as caught:
        await a_pipeline(method).unary(method, request, a_call())
    assert caught.value.message == "activity_ids[1] must be a valid UUID"


async def test_what_a_handler_raises_is_rendered() -> None:
    async def refuse(request: Message, call: Call) -> Message:
        raise NotFound("no such thing", reason="ORGANIZATION_NOT_FOUND")

    failure = await failure_of(refuse)
    assert (failure.code, failure.reason) == (Code.NOT_FOUND, "ORGANIZATION_NOT_FOUND")


async def test_a_bug_shows_a_number_and_the_log_has_the_rest() -> None:
    async def stumble(request: Message, call: Call) -> Message:
        raise ValueError("secret detail")

    with structlog.testing.capture_logs() as lines:
        failure = await failure_of(stumble)
    (line,) = lines
    assert failure.code is Code.INTERNAL
    assert "secret" not in repr((failure.message, failure.body, failure.details))
    assert line["incident"] in failure.message
    assert (line["request_id"], str(line["exc_info"])) == ("r-1", "secret detail")
    assert line["client_id"] == "mine"


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.ConnectionDoesNotExistError("gone"),
        asyncpg.InterfaceError("pool is closed"),
        asyncpg.QueryCanceledError("statement timeout"),
        asyncpg.DeadlockDetectedError("deadlock"),
    ],
)
async def test_an_outage_of_the_database_may_be_retried(error: Exception) -> None:
    async def lose(request: Message, call: Call) -> Message:
        raise error

    with structlog.testing.capture_logs() as lines:
        failure = await failure_of(lose)
    assert (failure.code, failure.reason) == (Code.UNAVAILABLE, "DATABASE_UNAVAILABLE")
    assert lines[0]["cause"] == type(error).__name__


async def test_a_client_that_leaves_is_no_failure() -> None:
    async def linger(request: Message, call: Call) -> Message:
        raise asyncio.CancelledError

    before = counted("CANCELLED")
    with pytest.raises(asyncio.CancelledError):
        await unary(linger, GOOD, a_call())
    assert counted("CANCELLED") == before + 1


async def test_calls_are_counted_by_code() -> None:
    async def refuse(request: Message, call: Call) -> Message:
        raise Aborted("no")

    ok, aborted = counted("OK"), counted("ABORTED")
    timed = seconds("_count"), seconds("_bucket", le="300.0"), seconds("_bucket", le="0.001")
    method = a_method(ADMIN, "CreateOrganization", answer)
    metrics = CallMetrics([method.path])
    await a_pipeline(method, metrics=metrics).unary(method, GOOD, a_call())
    metrics.ended(method.path, Code.OK, 299.0)
    await failure_of(refuse)
    await metrics.publish()
    await metrics.publish()  # What was published is not counted again.
    assert (counted("OK"), counted("ABORTED")) == (ok + 2, aborted + 1)
    assert (seconds("_count"), seconds("_bucket", le="300.0")) == (timed[0] + 2, timed[1] + 2)
    assert seconds("_bucket", le="0.001") <= timed[2] + 1


async def test_a_rest_caller_gets_the_status_that_the_contract_declares() -> None:
    call = a_call(rest=True)
    await unary(answer, GOOD, call)
    assert call.headers == {"x-http-code": "201"}


async def test_a_handler_may_choose_another_status() -> None:
    async def repeat(request: Message, call: Call) -> Message:
        call.set_http_status(200)
        return admin.Organization()

    rest, grpc = a_call(rest=True), a_call()
    await unary(repeat, GOOD, rest)
    await unary(repeat, GOOD, grpc)
    assert (rest.headers, grpc.headers) == ({"x-http-code": "200"}, {})


async def test_a_rest_caller_gets_a_bare_array() -> None:
    async def none(request: Message, call: Call) -> Message:
        return admin.ListOrganizationsResponse()

    method = a_method(ADMIN, "ListOrganizations", none)
    call = a_call(rest=True)
    await a_pipeline(method).unary(method, admin.ListOrganizationsRequest(), call)
    assert call.headers == {"x-unwrap": "organizations"}


# Streams


Frame = delegation.SubscribeInboxRequest
HELLO = Frame(hello=Frame.Hello(workspace_id=WORKSPACE, consumer_id="me"))


async def echo(
    requests: AsyncIterator[Message], call: Call
) -> AsyncIterator[delegation.SubscribeInboxResponse]:
    async for _ in requests:
        yield delegation.SubscribeInboxResponse(beat=inbox_pb2.Beat())


async def frames(*requests: Message) -> AsyncIterator[Message]:
    for request in requests:
        yield request


async def subscribed(
    *requests: Message, call: Call | None = None
) -> tuple[int, CallFailure | None]:
    """How many answers a stream gave, and how it failed."""
    method = a_method(DELEGATION, "SubscribeInbox", echo)
    answers = 0
    try:
        stream = a_pipeline(method).stream(method, frames(*requests), call or a_call())
        async for _ in stream:
            answers += 1
    except CallFailure as failure:
        return answers, failure
    return answers, None


async def test_a_stream_hands_every_frame_to_its_handler() -> None:
    assert await subscribed(HELLO, Frame(pong=Frame.Pong()), Frame(credit=Frame.Credit(n=1))) == (
        3,
        None,
    )


async def test_a_stream_without_a_frame_is_refused() -> None:
    answers, failure = await subscribed()
    assert failure is not None
    assert (answers, failure.code) == (0, Code.INVALID_ARGUMENT)


async def test_a_later_frame_is_checked_too() -> None:
    answers, failure = await subscribed(HELLO, Frame(credit=Frame.Credit(n=-1)))
    assert failure is not None
    assert (answers, failure.code) == (1, Code.INVALID_ARGUMENT)


async def test_a_stranger_opens_no_stream() -> None:
    answers, failure = await subscribed(HELLO, call=a_call(token=None))
    assert failure is not None
    assert (answers, failure.code) == (0, Code.UNAUTHENTICATED)


async def test_a_stream_fails_after_what_it_sent() -> None:
    async def stumble(request: Message, call: Call) -> AsyncIterator[Message]:
        yield delegation.StreamInboxResponse(beat=inbox_pb2.Beat())
        raise NotFound("gone", reason="WORKSPACE_REMOVED")

    method = a_method(DELEGATION, "StreamInbox", stumble)
    request = delegation.StreamInboxRequest(workspace_id=WORKSPACE)
    stream = a_pipeline(method).stream(method, one(request), a_call())
    beat = delegation.StreamInboxResponse(beat=inbox_pb2.Beat())
    assert await anext(stream) == beat.SerializeToString()
    with pytest.raises(CallFailure) as caught:
        await anext(stream)
    assert caught.value.reason == "WORKSPACE_REMOVED"


def counted(code: str) -> float:
    labels = {"method": f"/{ADMIN.full_name}/CreateOrganization", "code": code}
    return REGISTRY.get_sample_value("molecule_grpc_requests_total", labels) or 0.0


def seconds(kind: str, **labels: str) -> float:
    labels |= {"method": f"/{ADMIN.full_name}/CreateOrganization"}
    return REGISTRY.get_sample_value(f"molecule_grpc_request_seconds{kind}", labels) or 0.0
