"""Approvals and the viewport over the wire, as existing clients read them."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.e2e.parties import Agent, Organization, Party
from tests.waiting import until


@pytest.fixture
async def agent(org: Organization) -> Agent:
    return await org.hire()


async def ask(agent: Agent, **fields: Any) -> str:
    body = {"action": "publish", "context": {"pages": [1, None]}, **fields}
    answer = await agent.rest("POST", f"/workspaces/{agent.id}/approvals", body)
    assert (answer.status_code, answer.json()["status"]) == (201, "pending"), answer.text
    made: str = answer.json()["approval_id"]
    return made


async def decide(caller: Party, agent: Agent, approval: str, decision: str) -> int:
    path = f"/workspaces/{agent.id}/approvals/{approval}/decide"
    answer = await caller.rest("POST", path, {"decision": decision, "decided_by": "alice"})
    return answer.status_code


async def test_an_agent_asks_and_reads_the_decision(org: Organization, agent: Agent) -> None:
    """201, bare arrays, the decision in its list and in its inbox."""
    path = f"/workspaces/{agent.id}/approvals"
    assert (await agent.rest("GET", path)).json() == []
    approval = await ask(agent, reason="it is done", task_id="t-1")
    [waiting] = (await org.rest("GET", "/approvals/pending")).json()
    assert (waiting["id"], waiting["workspace_id"]) == (approval, agent.id)
    assert (waiting["workspace_name"] != "", waiting["context"]) == (True, {"pages": [1, None]})
    assert await decide(org, agent, approval, "approved") == 200
    assert (await org.rest("GET", "/approvals/pending")).json() == []
    [row] = (await agent.rest("GET", path)).json()
    assert (row["status"], row["decided_by"], row["task_id"]) == ("approved", "alice", "t-1")

    async def inbox() -> str:
        return (await agent.rest("GET", f"/workspaces/{agent.id}/inbox")).text

    text = await until(inbox, lambda text: approval in text)
    assert "Approval approved (by alice): publish" in text


async def test_who_asks_does_not_decide(
    org: Organization, other_org: Organization, operator: Party, agent: Agent
) -> None:
    """Neither the agent nor another one, and no other organisation; a decision is made once."""
    approval = await ask(agent)
    peer = await org.hire()
    assert await decide(agent, agent, approval, "approved") == 401
    assert await decide(peer, agent, approval, "approved") == 401
    assert await decide(other_org, agent, approval, "approved") == 404
    assert (await other_org.rest("GET", "/approvals/pending")).json() == []
    assert await decide(org, peer, approval, "approved") == 404
    assert await decide(org, agent, str(uuid.uuid4()), "approved") == 404
    assert await decide(org, agent, approval, "pending") == 400
    assert await decide(operator, agent, approval, "denied") == 200
    assert await decide(org, agent, approval, "denied") == 200
    assert await decide(org, agent, approval, "approved") == 404


@pytest.mark.parametrize(
    "fields",
    [
        {"action": " "},
        {"expires_in_seconds": 59},
        {"context": "x" * 17_000},
        {"action": "a" * 1001},
    ],
)
async def test_what_is_refused(agent: Agent, fields: dict[str, Any]) -> None:
    body = {"action": "publish", **fields}
    answer = await agent.rest("POST", f"/workspaces/{agent.id}/approvals", body)
    assert (answer.status_code, next(iter(fields)) in answer.json()["error"]) == (400, True)


async def test_the_canvas_stays_where_it_was_left(
    org: Organization, other_org: Organization, agent: Agent
) -> None:
    """For everybody of an organisation, and for nobody else; compact, as scripts compare it."""
    path = "/canvas/viewport"
    assert (await org.rest("GET", path)).text == '{"x":0,"y":0,"zoom":1}'
    saved = await org.rest("PUT", path, {"x": 100, "y": -2.5, "zoom": 0.8})
    assert (saved.status_code, saved.text) == (200, '{"status":"saved"}')
    assert (await agent.rest("GET", path)).json() == {"x": 100, "y": -2.5, "zoom": 0.8}
    assert (await other_org.rest("GET", path)).json() == {"x": 0, "y": 0, "zoom": 1}
    assert (await agent.rest("PUT", path, {"x": 1})).status_code == 401
    assert (await other_org.rest("GET", path, organization_id=org.id)).status_code == 404
    assert (await org.rest("PUT", path, {"zoom": 0})).status_code == 400
