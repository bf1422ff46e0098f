"""The SDK's pure parts: addresses, waits, and which failures are worth another try."""

from __future__ import annotations

import math

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from molecule_grpc.cli.main import hoisted
from molecule_grpc.client.connection import Address
from molecule_grpc.client.errors import (
    CallError,
    Fenced,
    InboxBusy,
    ServerFault,
    Unavailable,
    make_error,
    to_call_error,
)
from molecule_grpc.client.items import text_of
from molecule_grpc.client.retry import Backoff, ends_for_good, is_retryable, with_retries


@pytest.mark.parametrize(
    ("url", "target", "tls", "local"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1:8080", False, True),
        ("http://localhost", "localhost:80", False, True),
        ("https://molecule.example", "molecule.example:443", True, False),
        ("https://[::1]:8443/", "[::1]:8443", True, True),
        ("10.0.0.7:9090", "10.0.0.7:9090", False, False),
        ("unix:/run/molecule.sock", "unix:/run/molecule.sock", False, True),
    ],
)
def test_an_address_is_read_in_every_form(url: str, target: str, tls: bool, local: bool) -> None:
    assert Address.parse(url) == Address(target, tls=tls, local=local)


@pytest.mark.parametrize("url", ["", "http://", "ftp://host", "https://host:port"])
def test_what_is_not_an_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (the port's text is the library's)
        Address.parse(url)


@given(first=st.floats(0.01, 1), most=st.floats(1, 60), steps=st.integers(1, 20))
def test_waits_stay_within_a_bound_that_doubles(first: float, most: float, steps: int) -> None:
    backoff = Backoff(first, most)
    for step in range(steps):
        assert 0 <= backoff.next_wait() <= min(most, first * 2**step)
    backoff.reset()
    assert backoff.next_wait() <= first


def _error(code: grpc.StatusCode, reason: str = "", retry_after: float | None = None) -> CallError:
    return make_error("text", code=code, reason=reason, retry_after=retry_after)


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (_error(grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE"), True),
        (_error(grpc.StatusCode.DEADLINE_EXCEEDED), True),
        (_error(grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL"), True),
        (_error(grpc.StatusCode.RESOURCE_EXHAUSTED, "INBOX_FULL"), False),
        (_error(grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE", retry_after=1.0), True),
        (_error(grpc.StatusCode.ABORTED, "IDEMPOTENCY_MISMATCH"), False),
        (_error(grpc.StatusCode.INTERNAL), False),
    ],
)
def test_only_what_may_pass_by_itself_is_tried_again(error: CallError, again: bool) -> None:
    assert is_retryable(error) is again


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (_error(grpc.StatusCode.UNAVAILABLE), False),
        (_error(grpc.StatusCode.INTERNAL), False),
        (_error(grpc.StatusCode.RESOURCE_EXHAUSTED, "SLOW_CONSUMER"), False),
        (_error(grpc.StatusCode.INVALID_ARGUMENT, "ACK_NOT_DELIVERED"), False),
        (_error(grpc.StatusCode.NOT_FOUND, "ITEM_NOT_FOUND"), False),
        (_error(grpc.StatusCode.NOT_FOUND, "WORKSPACE_REMOVED"), True),
        (_error(grpc.StatusCode.UNAUTHENTICATED), True),
        (_error(grpc.StatusCode.ABORTED, "INBOX_BUSY"), True),
        (_error(grpc.StatusCode.ABORTED, "FENCED"), True),
    ],
)
def test_a_stream_is_opened_again_unless_the_answer_would_be_the_same(
    error: CallError, ends: bool
) -> None:
    assert ends_for_good(error) is ends


def test_a_reason_decides_the_kind_before_the_code_does() -> None:
    assert isinstance(_error(grpc.StatusCode.ABORTED, "FENCED"), Fenced)
    assert isinstance(_error(grpc.StatusCode.ABORTED, "INBOX_BUSY"), InboxBusy)
    assert isinstance(make_error("text", code=14), Unavailable)
    assert type(make_error("text", code=99)) is CallError


@pytest.mark.parametrize(
    ("details", "kind"),
    [
        ("Stream removed (RST_STREAM (Received RST_STREAM with error code 2))", Unavailable),
        ("internal error", ServerFault),
    ],
)
def test_an_answer_that_broke_off_is_no_fault_of_the_server(
    details: str, kind: type[CallError]
) -> None:
    error = grpc.aio.AioRpcError(
        grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), details
    )
    assert type(to_call_error(error)) is kind


async def test_a_call_is_tried_until_it_succeeds() -> None:
    budgets: list[float] = []

    async def third_time_lucky(left: float) -> str:
        budgets.append(left)
        if len(budgets) < 3:
            raise _error(grpc.StatusCode.UNAVAILABLE)
        return "done"

    assert await with_retries(third_time_lucky, 30.0) == "done"
    assert budgets == sorted(budgets, reverse=True)


async def test_a_call_is_not_tried_beyond_its_time() -> None:
    tries = 0

    async def never(left: float) -> str:
        nonlocal tries
        tries += 1
        raise _error(grpc.StatusCode.UNAVAILABLE, retry_after=10.0)

    with pytest.raises(Unavailable):
        await with_retries(never, 5.0)
    assert tries == 1


async def test_a_call_without_end_gets_time_without_end() -> None:
    async def at_once(left: float) -> float:
        return left

    assert math.isinf(await with_retries(at_once, math.inf))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"params": {"message": {"parts": [{"kind": "text", "text": "a"}]}}}, "a"),
        ({"params": {"message": {"parts": [{"type": "text", "text": "a"}]}}}, "a"),
        ({"params": {"parts": [{"kind": "text", "text": "a"}, {"kind": "file"}]}}, "a"),
        ({"parts": [{"kind": "text", "text": "a"}, {"kind": "text", "text": "b"}]}, "a\nb"),
        ({"text": "result", "delegation_id": "1"}, "result"),
        ({"params": {"message": "not an object"}}, ""),
        (None, ""),
    ],
)
def test_the_text_of_a_body_is_found(body: object, text: str) -> None:
    assert text_of(body) == text


@pytest.mark.parametrize(
    ("words", "moved"),
    [
        ("workspace ls --json", "--json workspace ls"),
        ("send a b --url http://x --token t", "--url http://x --token t send a b"),
        ("send a b --url=http://x", "--url=http://x send a b"),
        ("send a -- --json", "send a -- --json"),
        ("inbox tail w --ack --json", "--json inbox tail w --ack"),
        ("org ls --token", "--token org ls"),
    ],
)
def test_global_options_come_first(words: str, moved: str) -> None:
    assert hoisted(words.split()) == moved.split()
