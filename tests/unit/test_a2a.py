"""A2A messages: what a sender may leave out, and where the text is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molecule_grpc.delegation.record import a2a
from molecule_grpc.delegation.record.a2a import Envelope, parse, text_of
from molecule_grpc.delegation.record.rules import PLATFORM
from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.kernel.json_text import MAX_DEPTH, to_text

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)


def parsed(body: Any) -> Envelope:
    return parse(json.dumps(body).encode())


def sent(**message: Any) -> dict[str, Any]:
    return {"method": "message/send", "params": {"message": message}}


def test_complete_envelope_passes_as_it_is() -> None:
    body = {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "message/send",
        "params": {
            "message": {
                "role": "agent",
                "messageId": "m",
                "parts": [{"type": "text", "text": "hi"}],
                "extra": None,
            },
            "configuration": {"blocking": True},
        },
        "unknown": [1],
    }
    assert parsed(body) == Envelope("message/send", "m", body)


def test_bare_call_is_wrapped() -> None:
    envelope = parsed(sent(parts=[], messageId="m"))
    assert envelope.body["jsonrpc"] == "2.0"
    assert envelope.body["id"] == "m"
    assert envelope.message == {"parts": [], "messageId": "m", "role": "user"}


def test_message_without_an_id_gets_one() -> None:
    one, two = parsed(sent(parts=[])), parsed(sent(parts=[]))
    assert one.message_id == one.message["messageId"] != two.message_id


@pytest.mark.parametrize("none", ["", None])
def test_message_whose_id_says_nothing_gets_one(none: Any) -> None:
    assert len(parsed(sent(parts=[], messageId=none)).message_id) == 36


@pytest.mark.parametrize(
    "wrong", [7, 1.5, True, [], {}, "\x00", "a\x00b", "a\nb", ".", "..", "\ud800"]
)
def test_id_that_cannot_be_one_is_refused_by_name(wrong: Any) -> None:
    with pytest.raises(Invalid) as refused:
        parsed(sent(parts=[], messageId=wrong))
    assert refused.value.violations[0][0] == "body.params.message.messageId"


@pytest.mark.parametrize("method", ["x" * 129, "message\x00/send", ".."])
def test_method_that_cannot_be_one_is_refused_by_name(method: str) -> None:
    with pytest.raises(Invalid) as refused:
        parsed({"method": method})
    assert refused.value.violations[0][0] == "body.method"


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("hi", [{"kind": "text", "text": "hi"}]),
        ([{"kind": "text", "text": "hi"}], [{"kind": "text", "text": "hi"}]),
        (7, [{"kind": "text", "text": "7"}]),
    ],
)
def test_older_content_becomes_parts(content: Any, parts: list[Any]) -> None:
    message = parsed(sent(content=content)).message
    assert message["parts"] == parts
    assert "content" not in message


def test_other_methods_need_no_message() -> None:
    envelope = parsed({"method": "tasks/get", "params": {"id": "t"}})
    assert (envelope.method, envelope.message, envelope.delegation_id) == ("tasks/get", {}, "")
    assert parsed({"method": "ping"}).body["params"] == {}


@pytest.mark.parametrize("method", ["message/send", "tasks/send"])
@pytest.mark.parametrize("params", [{}, {"message": 7}, {"message": {}}, {"message": {"parts": 7}}])
def test_message_must_say_something(method: str, params: Any) -> None:
    with pytest.raises(Invalid):
        parsed({"method": method, "params": params})


@pytest.mark.parametrize("name", [f"{PLATFORM}result:x", PLATFORM, "x" * 257, "é" * 129])
def test_message_ids_that_are_not_the_senders_to_choose(name: str) -> None:
    with pytest.raises(Invalid):
        parsed(sent(parts=[], messageId=name))


def test_message_id_may_be_long() -> None:
    assert parsed(sent(parts=[], messageId="x" * 256)).message_id == "x" * 256


@pytest.mark.parametrize("metadata", [{"delegation_id": "d"}, {"delegation_id": 7}, None, "d", {}])
def test_delegation_is_named_by_metadata(metadata: Any) -> None:
    envelope = parsed(sent(parts=[], metadata=metadata))
    wanted = "d" if metadata == {"delegation_id": "d"} else ""
    assert envelope.delegation_id == wanted


def test_handed_over_task_reads_as_a_message() -> None:
    body = a2a.message_body("d", "the task")
    envelope = parsed(body)
    assert envelope.body == body
    assert (envelope.message_id, envelope.delegation_id) == ("d", "d")
    assert text_of(body) == "the task"


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"params": {"message": {"parts": [{"kind": "text", "text": "a"}]}}}, "a"),
        ({"params": {"parts": [{"type": "text", "text": "b"}]}}, "b"),
        ({"params": {"message": {"parts": [{"text": "1.0"}, {"data": {}, "text": 7}]}}}, "1.0"),
        ({"parts": [{"kind": "text", "text": "c"}, {"kind": "text", "text": "d"}]}, "c\nd"),
        ({"text": "e"}, "e"),
        ({"params": {"message": {"parts": []}}, "text": "f"}, "f"),
        ({"parts": [{"kind": "file", "text": "no"}, {"kind": "text"}, "x", None]}, ""),
        ({"text": 7}, ""),
        ({"params": {"message": 7, "parts": 7}}, ""),
        ([], ""),
        (None, ""),
        ("g", ""),
    ],
)
def test_text_is_found_where_clients_look(body: Any, text: str) -> None:
    assert text_of(body) == text


@given(st.binary(max_size=40) | JSON.map(lambda body: json.dumps(body).encode()))
def test_bytes_are_a_message_or_are_refused(data: bytes) -> None:
    try:
        envelope = parse(data)
    except Invalid:
        return
    assert envelope.method
    assert envelope.message_id


@given(JSON)
def test_text_is_always_text(body: Any) -> None:
    assert isinstance(text_of(body), str)


# Bodies on their way into the database.


@given(JSON)
def test_body_becomes_json_that_postgres_takes(body: Any) -> None:
    try:
        text = to_text(body, "body")
    except Invalid:
        return
    assert "\\u0000" not in text
    json.loads(text, parse_constant=pytest.fail)
    text.encode()


def test_harmless_body_is_kept() -> None:
    body: dict[str, Any] = {"a": [1, 2.5, None, True, "é😀", {"": {}}], "b": "\\u0000 spelled out"}
    assert json.loads(to_text(body, "body")) == body


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        ({"a\x00": ["\x00"]}, {"a": [""]}),
        ({"a\ud800": ["\ud83dx"]}, {"a?": ["?x"]}),
        ({"\x00\udfff": 1}, {"?": 1}),
    ],
)
def test_nul_and_lone_surrogates_are_repaired_in_answers_of_agents(body: Any, stored: Any) -> None:
    assert json.loads(to_text(body, "body", repair=True)) == stored


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"a": ["x", {"b": "\ud83dx"}]}, "body.a[1].b"),
        ("\udfff", "body"),
        ({"a": {"\ud800": 1}}, "a name in body.a"),
    ],
)
def test_lone_surrogate_is_refused_with_its_field(body: Any, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        to_text(body, "body")
    assert refused.value.violations[0][0] == field


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 10**309, -(10**309)])
def test_number_that_readers_cannot_hold_is_refused(number: float) -> None:
    with pytest.raises(Invalid) as refused:
        to_text({"a": [number]}, "field")
    assert refused.value.violations == [("field.a[0]", "field.a[0] is a number out of range")]


def test_depth_is_bounded() -> None:
    body: Any = "leaf"
    for _ in range(MAX_DEPTH):
        body = [body]
    assert to_text(body, "body")
    with pytest.raises(Invalid):
        to_text([body], "body")
