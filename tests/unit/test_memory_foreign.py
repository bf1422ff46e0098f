"""Memories of other libraries as an export."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from molecule_grpc.memory.legacy.foreign import (
    Unreadable,
    Where,
    elements,
    from_langgraph,
    from_mem0,
)

WHERE = Where("lead", "TEAM")
ID = "7c1c4de0-7f0a-4e6b-9d3c-0d1a4a4a0001"


def test_a_memory_of_mem0_keeps_id_text_owner_and_time() -> None:
    element = {
        "id": ID,
        "memory": "likes tea",
        "hash": "x",
        "metadata": {"category": "drinks"},
        "categories": ["drinks", 3],
        "created_at": "2025-01-02T03:04:05.678-08:00",
        "user_id": "alice",
        "agent_id": None,
    }
    found = from_mem0(element, WHERE)
    assert found["id"] == ID
    assert found["content"] == "likes tea"
    assert (found["workspace_name"], found["scope"]) == ("lead", "TEAM")
    assert found["tags"] == ["drinks"]
    assert found["entities"] == ["user:alice"]
    assert found["metadata"] == {"mem0": {"category": "drinks"}}
    assert found["created_at"] == "2025-01-02T11:04:05.678000Z"


def test_a_row_of_its_table_has_a_payload() -> None:
    row = {"id": ID, "vector": "[1,2]", "payload": {"data": "likes tea", "user_id": "alice"}}
    found = from_mem0(row, WHERE)
    assert (found["id"], found["content"], found["entities"]) == (ID, "likes tea", ["user:alice"])


def test_an_item_of_langgraph_gets_the_same_id_each_time() -> None:
    item = {
        "namespace": ["users", "alice"],
        "key": "k1",
        "value": {"text": "likes tea", "score": 3},
        "created_at": "2025-01-02T03:04:05+00:00",
    }
    found = from_langgraph(item, WHERE)
    assert found["content"] == "likes tea"
    assert found["tags"] == ["users", "alice"]
    about = found["metadata"]["langgraph"]
    assert about == {"namespace": ["users", "alice"], "key": "k1", "value": {"score": 3}}
    row = {"prefix": "users.alice", "key": "k1", "value": {"text": "likes coffee"}}
    assert from_langgraph(row, WHERE)["id"] == found["id"]
    assert from_langgraph(item | {"key": "k2"}, WHERE)["id"] != found["id"]
    UUID(found["id"])


@pytest.mark.parametrize(
    ("value", "content"),
    [("plain", "plain"), ({"a": [1, "é"]}, '{"a":[1,"é"]}'), ([1], "[1]")],
)
def test_a_value_without_a_text_is_kept_whole(value: Any, content: str) -> None:
    item = {"namespace": ["n"], "key": "k", "value": value}
    assert from_langgraph(item, WHERE)["content"] == content


@pytest.mark.parametrize("time", ["2025-01-02 03:04:05.1+00", "2025-01-02T03:04:05.1", "junk", 3])
def test_a_time_in_any_common_form_or_none(time: object) -> None:
    found = from_mem0({"id": ID, "memory": "x", "created_at": time}, WHERE)
    wanted = None if time in ("junk", 3) else "2025-01-02T03:04:05.100000Z"
    assert found["created_at"] == wanted


@pytest.mark.parametrize(
    "text",
    ['[{"a":1},{"a":2}]', '{"results":[{"a":1},{"a":2}]}', '{"a":1}\n\n{"a":2}\n'],
)
def test_every_form_of_a_file(text: str) -> None:
    assert [each["a"] for each in elements(text)] == [1, 2]


@pytest.mark.parametrize("text", ["3", "[3]", '{"a":1}\nnot json'])
def test_what_is_no_list_of_objects_is_named(text: str) -> None:
    with pytest.raises(Unreadable):
        list(elements(text))


@pytest.mark.parametrize("element", [{}, {"id": ID}, {"memory": " "}, {"payload": {"data": 3}}])
def test_a_memory_without_a_text_is_named(element: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        from_mem0(element, WHERE)
    with pytest.raises(Unreadable):
        from_langgraph(element, WHERE)


def test_an_export_is_json() -> None:
    json.dumps(from_mem0({"id": ID, "memory": "x"}, WHERE))
