"""What follows from an outcome, and how an answer is read."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molecule_grpc.delegation.ledger.rules import Status
from molecule_grpc.delegation.outbound import replies
from molecule_grpc.delegation.outbound.outcome import (
    Delivered,
    DispatchOutcome,
    Failed,
    Kind,
    Mode,
    NotSent,
    Queued,
    SendFailure,
)
from molecule_grpc.delegation.outbound.rules import (
    MAX_ATTEMPTS,
    QueueHistory,
    QueueStatus,
    RetryTiming,
    expiry,
    next_step,
    priority,
    wait_limit,
)
from molecule_grpc.delegation.record import a2a
from molecule_grpc.kernel.errors import Invalid

PACE = RetryTiming(backoff=5.0, retry=8.0, settle=180.0)
FRESH = QueueHistory(delegated=False)
TASK = QueueHistory(delegated=True)


def delivered(status: int = 200, body: Any = None, **changes: Any) -> Delivered:
    data = b"" if body is None else json.dumps(body).encode()
    reply = replies.read(data)
    assert reply is not None
    return Delivered(status, data, reply, duration_ms=1, **changes)


def said(text: str) -> Any:
    return {"result": {"parts": [{"kind": "text", "text": text}]}}


# Which outcome, what becomes of the message.


@pytest.mark.parametrize("failure", [SendFailure.BUSY, SendFailure.UNREACHABLE, SendFailure.DEAD])
def test_the_network_uses_up_no_attempt(failure: SendFailure) -> None:
    """I-Q-5: only answers do. However often it happens, a message stays in the queue."""
    history = FRESH
    for _ in range(20):
        decision = next_step(Failed(failure, "x"), history, PACE)
        assert (decision.row, decision.attempts, decision.waiting) == (QueueStatus.QUEUED, 0, True)
        history = QueueHistory(delegated=False, misses=decision.misses)


def test_answers_use_up_attempts_with_growing_pauses() -> None:
    """I-Q-5: the fifth bad answer is the last."""
    attempts, delays = 0, []
    while True:
        history = QueueHistory(delegated=False, attempts=attempts)
        decision = next_step(delivered(500, {"error": "no"}), history, PACE)
        attempts = decision.attempts
        if decision.row is not QueueStatus.QUEUED:
            break
        delays.append(decision.delay)
    assert (attempts, decision.row, decision.error) == (MAX_ATTEMPTS, QueueStatus.FAILED, "no")
    assert delays == [5.0, 10.0, 20.0, 40.0]


def test_exhausted_attempts_fail_the_delegation() -> None:
    """I-Q-4: its source must hear of it, and no policy tries again."""
    history = QueueHistory(delegated=True, attempts=MAX_ATTEMPTS - 1)
    decision = next_step(delivered(500, {"error": "no"}), history, PACE)
    assert decision.end is not None
    assert (decision.end.status, decision.end.reason) == (Status.FAILED, "exhausted")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_an_agent_that_says_no_is_not_asked_again(status: int) -> None:
    decision = next_step(delivered(status, {"error": "no"}), TASK, PACE)
    assert (decision.row, decision.end and decision.end.reason) == (QueueStatus.FAILED, "refused")


@pytest.mark.parametrize("status", [302, 408, 429, 500, 502, 503])
def test_an_agent_that_may_say_yes_later_is_asked_again(status: int) -> None:
    decision = next_step(delivered(status, {"error": "later"}), TASK, PACE)
    assert (decision.row, decision.attempts, decision.end) == (QueueStatus.QUEUED, 1, None)


def test_an_agent_may_ask_for_a_longer_pause() -> None:
    decision = next_step(delivered(429, {"error": "x"}, retry_after=120.0), FRESH, PACE)
    assert decision.delay == 120.0


def test_an_unreadable_answer_is_never_asked_for_again() -> None:
    """I-PX-3: it was delivered, whatever the caller's policy for errors says."""
    decision = next_step(Failed(SendFailure.UNREADABLE, "lost"), TASK, PACE)
    assert decision.row is QueueStatus.COMPLETED
    assert decision.end is not None
    assert (decision.end.status, decision.end.final) == (Status.FAILED, True)


def test_a_delegation_is_tried_once_more_after_eight_seconds() -> None:
    """Spec 5.2: only when the agent cannot be reached, or restarts."""
    first = next_step(Failed(SendFailure.UNREACHABLE, "x"), TASK, PACE)
    assert (first.row, first.delay, first.end) == (QueueStatus.QUEUED, 8.0, None)
    again = QueueHistory(delegated=True, misses=first.misses)
    second = next_step(Failed(SendFailure.DEAD, "x"), again, PACE)
    assert second.row is QueueStatus.FAILED
    assert second.end is not None
    assert (second.end.status, second.end.reason) == (Status.FAILED, "unreachable")


def test_being_busy_between_two_misses_is_a_sign_of_life() -> None:
    busy = next_step(Failed(SendFailure.BUSY, "x"), QueueHistory(delegated=True, misses=1), PACE)
    assert (busy.row, busy.misses, busy.end) == (QueueStatus.QUEUED, 0, None)


WARMING = delivered(503, {"restarting": True})


def test_an_agent_that_warms_up_gets_its_time() -> None:
    """Every 5 s, for 180 s, without using up an attempt; then the answer counts."""
    for settling in (None, 1.0, 179.0):
        decision = next_step(WARMING, QueueHistory(delegated=True, settling=settling), PACE)
        assert (decision.row, decision.attempts, decision.delay) == (QueueStatus.QUEUED, 0, 5.0)
        assert decision.settling
    late = next_step(WARMING, QueueHistory(delegated=True, settling=180.0), PACE)
    assert (late.row, late.attempts, late.settling) == (QueueStatus.QUEUED, 1, True)


@pytest.mark.parametrize("mark", ["restarting", "warming", "waking"])
def test_only_a_503_with_a_mark_means_warming_up(mark: str) -> None:
    assert next_step(delivered(503, {mark: True}), FRESH, PACE).attempts == 0
    assert next_step(delivered(500, {mark: True}), FRESH, PACE).attempts == 1
    assert next_step(delivered(503, {mark: "no"}), FRESH, PACE).attempts == 1


def test_an_agent_without_url_gets_its_time_to_register() -> None:
    missing = NotSent("URL_NOT_REGISTERED", "workspace has no URL", passing=True)
    assert next_step(missing, TASK, PACE).row is QueueStatus.QUEUED
    late = next_step(missing, QueueHistory(delegated=True, settling=181.0), PACE)
    assert (late.row, late.end and late.end.reason) == (QueueStatus.FAILED, "unreachable")


def test_a_refused_url_fails_the_delegation_at_once() -> None:
    """I-PX-4: nothing was sent."""
    decision = next_step(NotSent("URL_NOT_ROUTABLE", "no"), TASK, PACE)
    assert (decision.row, decision.end and decision.end.reason) == (QueueStatus.FAILED, "refused")


def test_a_message_has_no_delegation_to_end() -> None:
    assert next_step(delivered(200, said("x")), FRESH, PACE).end is None


# Which answer, what becomes of the delegation.


def test_a_text_completes_the_delegation() -> None:
    """D12: with the text in the same move."""
    decision = next_step(delivered(200, said("done")), TASK, PACE)
    assert decision.end is not None
    assert (decision.row, decision.end.status, decision.end.text) == (
        QueueStatus.COMPLETED,
        Status.COMPLETED,
        "done",
    )


@pytest.mark.parametrize("body", [None, {}, {"result": None}, {"result": {"parts": []}}, [], ""])
def test_an_empty_success_is_a_failure(body: Any) -> None:
    decision = next_step(delivered(200, body), TASK, PACE)
    assert decision.end is not None
    assert (decision.end.status, decision.end.error) == (
        Status.FAILED,
        "workspace agent returned empty response",
    )


def test_an_error_of_json_rpc_is_the_agents_error() -> None:
    body = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "no such method"}}
    decision = next_step(delivered(200, body), TASK, PACE)
    assert decision.end is not None
    assert (decision.end.reason, decision.end.error) == ("agent_error", "no such method")


@pytest.mark.parametrize(
    "body",
    [
        {"status": "queued", "delivery_mode": "poll", "method": "message/send"},
        {"status": "queued", "delivery_mode": "push-async", "method": "message/send"},
        {"queued": True, "queue_id": "x", "queue_depth": 1, "message": "busy"},
        {"result": {"kind": "task", "id": "1", "status": {"state": "working"}}},
        {"result": {"kind": "task", "id": "1", "status": {"state": "TASK_STATE_SUBMITTED"}}},
    ],
)
def test_a_receipt_is_not_a_result(body: Any) -> None:
    """I-PX-6: the delegation stays open until the agent reports."""
    decision = next_step(delivered(200, body), TASK, PACE)
    assert (decision.row, decision.end) == (QueueStatus.COMPLETED, None)
    poll: DispatchOutcome = Queued(Mode.POLL)
    assert next_step(poll, TASK, PACE).end is None


def test_an_agents_failed_task_fails_the_delegation() -> None:
    status = {"state": "failed", "message": {"parts": [{"kind": "text", "text": "broken"}]}}
    decision = next_step(delivered(200, {"result": {"kind": "task", "status": status}}), TASK, PACE)
    assert (decision.end and decision.end.error) == "broken"


@pytest.mark.parametrize(
    "body",
    [
        said("hello"),
        {"result": "hello"},
        {"result": {"parts": [{"type": "text", "text": "hello"}]}},
        {"result": {"artifacts": [{"parts": [{"kind": "text", "text": "hello"}]}]}},
        {"result": {"status": {"message": {"parts": [{"kind": "text", "text": "hello"}]}}}},
        {"parts": [{"kind": "text", "text": "hello"}]},
        {"text": "hello"},
        "hello",
    ],
)
def test_the_text_of_an_answer_is_found_in_every_shape(body: Any) -> None:
    reply = replies.read(json.dumps(body).encode())
    assert reply is not None
    assert (reply.kind, reply.text) == (Kind.RESULT, "hello")


# Reading what may be hostile.


@pytest.mark.parametrize(
    "data", [b"<html>", b"\xff\xfe", b"NaN", b'{"a":', b"[" * 100_000, b"\x1f\x8b\x08"]
)
def test_garbage_is_known_as_such(data: bytes) -> None:
    assert replies.read(data) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text() | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_every_json_answer_can_be_kept(body: Any) -> None:
    """Postgres takes the row of every answer: without NUL and lone surrogates."""
    try:
        data = json.dumps(body, allow_nan=False).encode()
    except ValueError:
        return
    reply = replies.read(data)
    assert reply is not None
    stored = reply.stored or "null"
    json.loads(stored)
    assert "\\u0000" not in stored
    reply.text.encode()


def test_an_answer_that_is_too_deep_is_kept_as_its_text() -> None:
    deep: Any = "x"
    for _ in range(100):
        deep = [deep]
    reply = replies.read(json.dumps({"result": "hello", "extra": deep}).encode())
    assert reply is not None
    assert json.loads(reply.stored or "") == {"text": "hello", "unreadable": True}


def test_a_long_answer_is_kept_as_its_text_and_marked() -> None:
    reply = replies.read(json.dumps(said("é" * 2_000_000)).encode())
    assert reply is not None
    kept = json.loads(reply.stored or "")
    assert kept["truncated"] is True
    assert set(kept["text"]) == {"é"}
    assert 1_048_576 < len(reply.text.encode()) <= 1_048_576 + 4


# What a sender may ask for.


def envelope(**params: Any) -> a2a.Envelope:
    message = {"parts": [{"kind": "text", "text": "x"}]}
    return a2a.parse(
        json.dumps({"method": "message/send", "params": {"message": message, **params}}).encode()
    )


def test_urgency_and_life_are_the_senders_choice() -> None:
    assert (priority(envelope()), expiry(envelope())) == (50, timedelta(hours=24))
    assert priority(envelope(priority="critical")) == 100
    assert priority(envelope(priority=10)) == 10
    assert expiry(envelope(expires_in_seconds=90)) == timedelta(seconds=90)


@pytest.mark.parametrize("value", ["urgent", 99, None, ["critical"]])
def test_urgency_has_three_values(value: Any) -> None:
    with pytest.raises(Invalid):
        priority(envelope(priority=value))


@pytest.mark.parametrize("value", [0, -1, "soon", 8 * 24 * 3600, []])
def test_a_life_is_bounded(value: Any) -> None:
    with pytest.raises(Invalid):
        expiry(envelope(expires_in_seconds=value))


@pytest.mark.parametrize(
    ("text", "seconds"), [("5", 5.0), ("0", 0.0), ("0.5", 0.5), ("", None), ("-1", None),
                          ("nan", None), ("inf", None), ("x", None)],
)  # fmt: skip
def test_patience_is_read_leniently(text: str, seconds: float | None) -> None:
    assert wait_limit(text) == seconds
