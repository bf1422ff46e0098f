"""Unmodified clients answer what they poll; none may be led to converse with itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.parties import Agent, Organization
from tests.e2e.test_delegation import delegated, update

ROUNDS = 5


def older_sdk(row: dict[str, Any]) -> tuple[str, str] | None:
    """Whom the older Python SDK answers, and what it read: it looks at `data` alone."""
    data = row.get("data") or {}
    return (data["source_id"], data["text"]) if data.get("source") == "peer_agent" else None


def go_client(row: dict[str, Any]) -> tuple[str, str] | None:
    """Whom the Go client answers: whoever stands in `source_id`."""
    source = row.get("source_id")
    return (source, row.get("summary") or "") if source else None


@pytest.mark.parametrize("reads", [older_sdk, go_client])
async def test_a_poller_that_answers_every_row_says_at_most_one_thing(
    org: Organization, reads: Callable[[dict[str, Any]], tuple[str, str] | None]
) -> None:
    caller, callee = await org.hire(), await org.hire()
    name = await delegated(caller, callee)
    await update(callee, name, status="completed", response_preview="the result")
    said, since = 0, ""
    for _ in range(ROUNDS):
        query = {"type": "a2a_receive", **({"since_id": since} if since else {})}
        rows = (await caller.rest("GET", f"/workspaces/{caller.id}/activity", **query)).json()
        for row in rows:
            since = row["id"]
            if (answered := reads(row)) is None:
                continue
            target, text = answered
            said += 1
            parts = [{"kind": "text", "text": f"re: {text}"}]
            body = {"method": "message/send", "params": {"message": {"parts": parts}}}
            sent = await caller.rest("POST", f"/workspaces/{target}/a2a", body)
            assert sent.status_code == 200, sent.text
    assert said <= 1


async def test_a_result_has_its_text_where_those_clients_look(org: Organization) -> None:
    caller, callee = await org.hire(), await org.hire()
    name = await delegated(caller, callee)
    await update(callee, name, status="completed", response_preview="the result")
    path = f"/workspaces/{caller.id}/activity"
    [row] = (await caller.rest("GET", path, type="a2a_receive")).json()
    assert row["summary"] == "the result"
    assert row["response_body"] == {"delegation_id": name, "text": "the result"}
    assert "data" not in row


async def test_a_message_to_oneself_is_accepted_and_never_delivered(agent_at_home: Agent) -> None:
    agent = agent_at_home
    body = {"method": "message/send", "params": {"message": {"parts": [{"text": "me"}]}}}
    sent = await agent.rest("POST", f"/workspaces/{agent.id}/a2a", body)
    assert (sent.status_code, sent.json()["status"]) == (200, "queued")
    inbox = (await agent.rest("GET", f"/workspaces/{agent.id}/inbox")).json()
    assert inbox["items"] == []
    [row] = (await agent.rest("GET", f"/workspaces/{agent.id}/activity")).json()
    assert row["activity_type"] == "a2a_send"


@pytest.fixture
async def agent_at_home(org: Organization) -> Agent:
    return await org.hire()
