"""Reads an agent's answer from untrusted bytes, and makes the answer fit to be kept."""

from __future__ import annotations

import json
from typing import Any

from molecule_grpc.delegation.outbound.outcome import Kind, Reply, Tokens
from molecule_grpc.delegation.record.a2a import said
from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.kernel.json_text import to_text
from molecule_grpc.kernel.text import RESULT_BYTES, clean, cut_bytes

# States of an A2A task that goes on, in the old and the new spelling.
_OPEN_STATES = frozenset({"submitted", "working", "input-required", "auth-required"})
_BAD_STATES = frozenset({"failed", "rejected", "canceled", "cancelled"})
# Bodies beyond 2 MiB stay longer than 1 MiB even when written without blanks.
_MUCH_BYTES = 2 * RESULT_BYTES
# A task or a message has at least one of these.
_BARE = frozenset({"artifacts", "kind", "parts", "status"})
_WARMING_MARKS = ("restarting", "warming", "waking")
_NAMES_OF_TOKENS = frozenset({"input_tokens", "output_tokens"})
# Of one answer: a hostile one must not make the sum of a day overflow.
_MOST_TOKENS = 1_000_000_000


NOTHING = Reply(Kind.EMPTY, "", None)


def read(data: bytes) -> Reply | None:
    """Read an answer's body; None when it is not JSON.

    While reading this takes up to 20 times the memory of `data`.
    """
    if not data.strip():
        return NOTHING
    try:
        body = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    kind, text = _meaning(body)
    text = cut_bytes(clean(text), RESULT_BYTES + 4)
    warming = isinstance(body, dict) and any(body.get(mark) is True for mark in _WARMING_MARKS)
    stored = _shortened(text) if len(data) > _MUCH_BYTES else _stored(body, text)
    return Reply(kind, text, stored, warming, _tokens(body))


def _meaning(body: Any) -> tuple[Kind, str]:
    if not isinstance(body, dict):
        text = body if isinstance(body, str) else ""
        return (Kind.RESULT, text) if text else (Kind.EMPTY, "")
    if body.get("error"):
        return Kind.ERROR, _error_text(body["error"])
    if "result" not in body and (body.get("status") == "queued" or body.get("queued") is True):
        return Kind.OPEN, ""
    result = _unwrapped(body.get("result", body))
    text = _result_text(result)
    state = _state(result)
    if state in _BAD_STATES:
        return Kind.ERROR, text or f"the agent's task ended as {state}"
    if state in _OPEN_STATES:
        return Kind.OPEN, text
    return (Kind.RESULT, text) if text else (Kind.EMPTY, "")


def _unwrapped(result: Any) -> Any:
    """The task or message that A2A 1.0 answers with under its name; 0.3 answers with it bare."""
    if isinstance(result, dict) and not _BARE & result.keys():
        for name in ("task", "message"):
            if isinstance(result.get(name), dict):
                return result[name]
    return result


def _result_text(result: Any) -> str:
    """Text of a message, or of a task: of the artifacts, else of the last status message."""
    if isinstance(result, str):
        return result
    if not isinstance(result, dict):
        return ""
    artifacts = result.get("artifacts")
    if isinstance(artifacts, list):
        texts = [text for text in map(said, artifacts) if text]
        if texts:
            return "\n".join(texts)
    status = result.get("status")
    spoken = said(status.get("message")) if isinstance(status, dict) else ""
    return said(result) or spoken


def _state(result: Any) -> str:
    status = result.get("status") if isinstance(result, dict) else None
    state = status.get("state") if isinstance(status, dict) else None
    if not isinstance(state, str):
        return ""
    return state.lower().removeprefix("task_state_").replace("_", "-")


def _tokens(body: Any) -> Tokens | None:
    """The tokens that an answer reports: in its body, its result or its result's metadata."""
    if not isinstance(body, dict):
        return None
    result = _unwrapped(body.get("result"))
    places = [body, result, result.get("metadata") if isinstance(result, dict) else None]
    for place in places:
        usage = place.get("usage") if isinstance(place, dict) else None
        if isinstance(usage, dict) and not _NAMES_OF_TOKENS.isdisjoint(usage):
            return Tokens(*(_count(usage.get(name)) for name in ("input_tokens", "output_tokens")))
    return None


def _count(value: Any) -> int:
    """A number of tokens; 0 for what is none, and never more than any model can take."""
    counted = isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0
    return int(min(value, _MOST_TOKENS)) if counted else 0


def _error_text(error: Any) -> str:
    if isinstance(error, dict):
        error = error.get("message") or error
    return error if isinstance(error, str) else json.dumps(error)[:1000]


def _stored(body: Any, text: str) -> str:
    try:
        stored = to_text(body, "body", repair=True)
    except (Invalid, RecursionError):
        return json.dumps({"text": cut_bytes(text, RESULT_BYTES), "unreadable": True})
    return stored if len(stored) <= RESULT_BYTES else _shortened(text)


def _shortened(text: str) -> str:
    return json.dumps({"text": cut_bytes(text, RESULT_BYTES // 2), "truncated": True})


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
