"""Calls about memories as docs/memory.md spells them for REST."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.parties import Agent, Organization


@pytest.fixture
async def root(org: Organization) -> Agent:
    return await org.hire("lead")


async def post(agent: Agent, path: str, body: Any, status: int = 200) -> Any:
    answer = await agent.rest("POST", path, body)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_a_batch_answers_for_each_draft(root: Agent) -> None:
    path = f"/workspaces/{root.id}/v2/memories/batch"
    body = {"memories": [{"content": "one"}, {}, {"content": "two", "tags": ["t"]}]}
    outcomes = (await post(root, path, body))["outcomes"]
    assert ["result" in each for each in outcomes] == [True, False, True]
    assert outcomes[1]["error"]["code"] == 3


async def test_a_summary_is_made_with_201(root: Agent) -> None:
    path = f"/workspaces/{root.id}/v2/summaries"
    made = await post(root, path, {"content": "the day in short"}, 201)
    got = await root.rest("GET", f"/workspaces/{root.id}/v2/memories/{made['id']}")
    assert (got.json()["kind"], "expires_at" in got.json()) == ("summary", True)


async def test_a_consolidation_and_its_undoing(root: Agent) -> None:
    memories = f"/workspaces/{root.id}/v2/memories"
    ids = [(await post(root, memories, {"content": f"part {n}"}, 201))["id"] for n in range(2)]
    path = f"/workspaces/{root.id}/v2/memories/consolidate"
    body = {"memory_ids": ids, "memory": {"content": "the whole"}}
    done = await post(root, path, body)
    assert sorted(done["superseded"]) == sorted(ids)
    whole = done["result"]["id"]
    undone = await post(root, f"/workspaces/{root.id}/v2/memories/{whole}/restore", None)
    assert sorted(undone["restored"]) == sorted(ids)


async def test_a_mask_says_what_is_changed_and_what_is_cleared(root: Agent) -> None:
    draft = {
        "content": "holds for a while",
        "tags": ["a"],
        "valid_to": "2099-01-01T00:00:00Z",
        "expires_at": "2099-01-01T00:00:00Z",
    }
    made = await post(root, f"/workspaces/{root.id}/v2/memories", draft, 201)
    path = f"/workspaces/{root.id}/v2/memories/{made['id']}"
    body = {"update_mask": "validTo,tags", "pinned": True}
    assert (await root.rest("PATCH", path, body)).json()["changed"] is True
    got = (await root.rest("GET", path)).json()
    assert (got.get("valid_to"), got["tags"], got["pinned"]) == (None, [], False)
    assert got["expires_at"] == "2099-01-01T00:00:00Z"
    for mask in ("content", "labels"):
        refused = await root.rest("PATCH", path, {"update_mask": mask})
        assert (refused.status_code, mask in refused.text) == (400, True)


async def test_a_namespace_has_a_language(root: Agent) -> None:
    path = f"/workspaces/{root.id}/v2/namespaces"
    await post(root, f"/workspaces/{root.id}/v2/memories", {"content": "die Häuser"}, 201)
    done = await root.rest(
        "PUT", f"/workspaces/{root.id}/v2/namespaces/language", {"language": "german"}
    )
    assert done.json() == {
        "namespace": f"workspace:{root.id}",
        "language": "german",
        "reindexed": 1,
    }
    own = (await root.rest("GET", path)).json()["readable"][0]
    assert own["language"] == "german"


async def test_a_memory_is_changed_replaced_and_forgotten(root: Agent) -> None:
    memories = f"/workspaces/{root.id}/v2/memories"
    made = await post(root, memories, {"content": "first"}, 201)
    path = f"/workspaces/{root.id}/v2/memories/{made['id']}"
    changed = await root.rest("PATCH", path, {"tags": {"values": ["a"]}, "pinned": True})
    assert changed.json()["changed"] is True
    new = await post(
        root, f"/workspaces/{root.id}/v2/memories/{made['id']}/supersede", {"content": "then"}, 201
    )
    answer = await root.rest("GET", f"/workspaces/{root.id}/v2/memories/{new['id']}/history")
    assert [each["content"] for each in answer.json()["versions"]] == ["first", "then"]
    why = await post(
        root, f"/workspaces/{root.id}/v2/memories/{made['id']}/explain", {"q": "first"}
    )
    assert "superseded" in why["excluded_by"]
    gone = await root.rest("DELETE", f"/workspaces/{root.id}/v2/memories/{new['id']}")
    assert gone.json()["status"] == "deleted"


async def test_a_key_is_deleted_by_its_path(root: Agent) -> None:
    await post(root, f"/workspaces/{root.id}/memory", {"key": "plan", "value": 1})
    stale = await root.rest("DELETE", f"/workspaces/{root.id}/memory/plan", if_version=7)
    assert stale.status_code == 409
    gone = await root.rest("DELETE", f"/workspaces/{root.id}/memory/plan")
    assert gone.json() == {"status": "deleted"}
