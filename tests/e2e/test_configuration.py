"""Settings, model, budget, use of tokens and the assigned agent of a workspace, over REST."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest

from tests.e2e.parties import Agent, Organization, Party
from tests.running import RunningServer


@pytest.fixture
async def agent(org: Organization) -> Agent:
    return await org.hire()


def path_of(agent: Agent, what: str) -> str:
    return f"/workspaces/{agent.id}/{what}"


async def got(party: Party, path: str) -> Any:
    answer = await party.rest("GET", path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def events_of(org: Organization, agent: Agent) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await got(org, f"/events/{agent.id}")
    return [each for each in found if each["event_type"].startswith("AGENT_")]


async def test_settings_are_merged_key_by_key(agent: Agent) -> None:
    """A key gets its whole new value, null included; the others stay; a repeat changes nothing."""
    path = path_of(agent, "config")
    assert (await got(agent, path))["data"] == {}
    first = {"theme": {"dark": True, "size": 2}, "tags": ["a", {"b": None}], "n": 1.5}
    for change in (first, {"theme": {"size": 3}, "n": None}, {"n": None}):
        answer = await agent.rest("PATCH", path, change)
        assert (answer.status_code, answer.json()) == (200, {"status": "updated"})
    merged = first | {"theme": {"size": 3}, "n": None}
    assert (await got(agent, path))["data"] == merged


async def test_settings_keep_long_integers(agent: Agent) -> None:
    """Over REST a number that no double holds arrives as it was sent."""
    path = path_of(agent, "config")
    assert (await agent.rest("PATCH", path, {"id": 2**63 + 1})).status_code == 200
    assert (await got(agent, path))["data"] == {"id": 2**63 + 1}


async def test_settings_have_a_limit(agent: Agent) -> None:
    """413 beyond 256 KiB in one call or 512 KiB in all; nothing of such a call is stored."""
    path = path_of(agent, "config")
    assert (await agent.rest("PATCH", path, {"k": "x" * 256 * 1024})).status_code == 413
    for key in "ab":
        assert (await agent.rest("PATCH", path, {key: "x" * 250_000})).status_code == 200
    assert (await agent.rest("PATCH", path, {"c": "x" * 50_000})).status_code == 413
    assert set((await got(agent, path))["data"]) == {"a", "b"}


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("[1]", "data must be a JSON object"),
        ("7", "data must be a JSON object"),
        (" -9007199254740993", "data must be a JSON object"),
        ("text", "the body is no JSON"),
        ('{"a": ', "the body is no JSON"),
        ('{"a": 1e999}', "the body is no JSON"),
    ],
)
async def test_settings_are_a_json_object(agent: Agent, body: str, error: str) -> None:
    """A body that is a number alone is read to its end, although nothing follows the digits."""
    headers = {**agent.headers, "content-type": "application/json"}
    url = path_of(agent, "config")
    answer = await agent.wire.http.patch(url, content=body, headers=headers)
    assert answer.status_code == 400, answer.text
    assert error in answer.json()["error"]
    assert (await got(agent, url))["data"] == {}


@pytest.mark.parametrize("body", ["7", '"x"', "[1]"])
async def test_a_body_of_fields_is_a_json_object(org: Organization, body: str) -> None:
    headers = {**org.headers, "content-type": "application/json"}
    answer = await org.wire.http.post("/workspaces", content=body, headers=headers)
    refused = (answer.status_code, answer.json())
    assert refused == (400, {"error": "the body must be a JSON object"})


async def test_a_model_is_chosen_by_whoever_is_nearest(org: Organization) -> None:
    """The default of the runtime, then creation, agent, organisation, the workspace itself."""
    agent = await org.hire()
    path = path_of(agent, "model")
    assert await got(agent, path) == {"model": "anthropic:claude-opus-4-7", "source": "default"}
    assert (await org.rest("POST", path_of(agent, "agent"), {"model": "opus"})).status_code == 201
    assert await got(agent, path) == {"model": "opus", "source": "agent"}
    shared = {"key": "MODEL_PROVIDER", "value": "theirs"}
    assert (await org.rest("PUT", "/settings/secrets", shared)).status_code == 200
    assert await got(agent, path) == {"model": "theirs", "source": "organization_secrets"}
    answer = await agent.rest("PUT", path, {"model": "nobody:knows-1"})
    assert (answer.status_code, answer.json()) == (
        200,
        {"status": "saved", "model": "nobody:knows-1"},
    )
    assert await got(agent, path) == {"model": "nobody:knows-1", "source": "workspace_secrets"}
    assert "MODEL_PROVIDER" in await got(agent, path_of(agent, "secrets/values"))
    for _ in range(2):
        answer = await agent.rest("PUT", path, {"model": ""})
        assert (answer.status_code, answer.json()["status"]) == (200, "cleared")
    assert (await got(agent, path))["source"] == "organization_secrets"


@pytest.mark.parametrize("model", ["two\nlines", "x" * 101])
async def test_a_model_stands_on_one_line(agent: Agent, model: str) -> None:
    for method, what in (("PUT", "model"), ("POST", "agent")):
        answer = await agent.rest(method, path_of(agent, what), {"model": model})
        assert (answer.status_code, "model" in answer.text) == (400, True)


async def test_a_budget_is_set_by_owners_only(org: Organization, agent: Agent) -> None:
    """What is left may be negative; null lifts the limit; an agent cannot lift its own."""
    path = path_of(agent, "budget")
    assert await got(agent, path) == {"monthly_spend": 0}
    beat = {"workspace_id": agent.id, "monthly_spend": 750}
    assert (await agent.rest("POST", "/registry/heartbeat", beat)).status_code == 200
    answer = await org.rest("PATCH", path, {"budget_limit": 500})
    limited = {"budget_limit": 500, "monthly_spend": 750, "budget_remaining": -250}
    assert (answer.status_code, answer.json()) == (200, limited)
    assert await got(agent, path) == limited
    assert (await agent.rest("PATCH", path, {"budget_limit": None})).status_code == 401
    answer = await org.rest("PATCH", path, {"budget_limit": None})
    assert (answer.status_code, answer.json()) == (200, {"monthly_spend": 750})


@pytest.mark.parametrize("body", [{}, {"budget_limit": -1}, {"budget_limit": "5"}])
async def test_a_budget_is_a_number_or_null(
    org: Organization, agent: Agent, body: dict[str, Any]
) -> None:
    answer = await org.rest("PATCH", path_of(agent, "budget"), body)
    assert (answer.status_code, "budget_limit" in answer.text) == (400, True)


async def test_a_new_month_begins_with_nothing_spent(
    server: RunningServer, org: Organization, agent: Agent
) -> None:
    """402 while the spend of this month reaches the limit; last month's counts no more."""
    message = {"method": "message/send", "params": {"message": {"parts": [{"text": "hi"}]}}}
    beat = {"workspace_id": agent.id, "monthly_spend": 500}
    await agent.rest("POST", "/registry/heartbeat", beat)
    await org.rest("PATCH", path_of(agent, "budget"), {"budget_limit": 500})
    assert (await org.rest("POST", path_of(agent, "a2a"), message)).status_code == 402
    connection = await asyncpg.connect(server.database_url)
    try:
        await connection.execute(
            "UPDATE workspaces SET spend_reported_at = spend_reported_at - interval '32 days'"
            " WHERE id = $1",
            uuid.UUID(agent.id),
        )
    finally:
        await connection.close()
    assert (await got(agent, path_of(agent, "budget")))["budget_remaining"] == 500
    assert (await got(org, f"/workspaces/{agent.id}"))["monthly_spend"] == 0
    assert (await org.rest("POST", path_of(agent, "a2a"), message)).status_code == 200


async def test_the_use_of_a_day_begins_at_zero(agent: Agent) -> None:
    found = await got(agent, path_of(agent, "metrics"))
    since, until = (datetime.fromisoformat(found.pop(f"period_{end}")) for end in ("start", "end"))
    assert (until - since, since.hour, since.utcoffset()) == (timedelta(days=1), 0, timedelta())
    assert found == {
        "input_tokens": 0, "output_tokens": 0, "total_calls": 0, "estimated_cost_usd": "0.000000",
    }  # fmt: skip


async def test_one_agent_is_assigned_at_a_time(org: Organization, agent: Agent) -> None:
    """404 without one, 409 for a second one; each change is an event."""
    path = path_of(agent, "agent")
    for method in ("GET", "DELETE"):
        assert (await agent.rest(method, path)).status_code == 404
    assert (await agent.rest("PATCH", path, {"model": "opus"})).status_code == 404
    assigned = await agent.rest("POST", path, {"model": "sonnet"})
    assert (assigned.status_code, assigned.json()["model"]) == (201, "sonnet")
    first = assigned.json()["agent_id"]
    assert (await agent.rest("POST", path, {"model": "opus"})).status_code == 409
    ids = []
    for _ in range(2):
        replaced = await agent.rest("PATCH", path, {"model": "opus", "reason": "better"})
        assert replaced.status_code == 200
        ids.append(replaced.json()["agent_id"])
    assert ids[0] == ids[1] != first
    assert (await got(agent, path))["agent_id"] == ids[0]
    removed = await agent.rest("DELETE", path)
    assert removed.json() == {"status": "removed", "agent_id": ids[0]}
    events = {each["event_type"]: each["payload"] for each in await events_of(org, agent)}
    assert set(events) == {"AGENT_ASSIGNED", "AGENT_REPLACED", "AGENT_REMOVED"}
    assert events["AGENT_REPLACED"] == {
        "agent_id": ids[0], "model": "opus", "old_agent_id": first, "old_model": "sonnet",
        "reason": "better",
    }  # fmt: skip


async def test_an_agent_moves_to_a_workspace_without_one(
    org: Organization, other_org: Organization, agent: Agent
) -> None:
    """404 for a target of others, 409 for one that is taken; an event on both sides."""
    taken, free, foreign = await org.hire(), await org.hire(), await other_org.hire()
    for each in (agent, taken):
        await org.rest("POST", path_of(each, "agent"), {"model": "sonnet"})

    async def move(party: Party, target: str) -> tuple[int, Any]:
        body = {"target_workspace_id": target}
        answer = await party.rest("POST", path_of(agent, "agent/move"), body)
        return answer.status_code, answer.json().get("workspace_id")

    assert (await move(org, foreign.id))[0] == 404
    assert (await move(org, str(uuid.uuid4())))[0] == 404
    assert (await move(org, taken.id))[0] == 409
    assert (await move(agent, free.id))[0] == 401
    assert await move(org, free.id) == (200, free.id)
    assert (await got(free, path_of(free, "agent")))["model"] == "sonnet"
    assert (await agent.rest("GET", path_of(agent, "agent"))).status_code == 404
    for each in (agent, free):
        assert "AGENT_MOVED" in [one["event_type"] for one in await events_of(org, each)]


@pytest.mark.parametrize("what", ["config", "model", "budget", "metrics", "agent"])
async def test_a_removed_workspace_has_no_configuration(org: Organization, what: str) -> None:
    agent = await org.hire()
    assert (await org.rest("DELETE", f"/workspaces/{agent.id}")).status_code == 200
    answer = await org.rest("GET", path_of(agent, what))
    assert (answer.status_code, answer.json()["error"]) == (404, "workspace not found")
