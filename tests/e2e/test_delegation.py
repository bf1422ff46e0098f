"""Delegation over the wire: exact REST bodies and statuses, and the same over gRPC."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import httpx
import pytest
from moleculeai.delegation.v1 import delegation_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from tests.e2e.parties import Agent, Organization, Party, Refused
from tests.e2e.readers import holding

Status = delegation_pb2.Delegation.Status


@pytest.fixture
async def caller(org: Organization) -> Agent:
    return await org.hire()


@pytest.fixture
async def callee(org: Organization) -> Agent:
    return await org.hire()


def told(answer: httpx.Response) -> tuple[int, Any]:
    """Status and body."""
    return answer.status_code, answer.json()


async def delegate(caller: Agent, callee: Agent, task: str = "task", **body: Any) -> httpx.Response:
    body = {"target_id": callee.id, "task": task, **body}
    return await caller.rest("POST", f"/workspaces/{caller.id}/delegate", body)


async def delegated(caller: Agent, callee: Agent, task: str = "task", **body: Any) -> str:
    answer = await delegate(caller, callee, task, **body)
    assert answer.status_code == 202, answer.text
    name: str = answer.json()["delegation_id"]
    return name


async def update(agent: Agent, name: str, **body: Any) -> httpx.Response:
    return await agent.rest("POST", f"/workspaces/{agent.id}/delegations/{name}/update", body)


async def listed(agent: Agent, **params: Any) -> list[dict[str, Any]]:
    answer = await agent.rest("GET", f"/workspaces/{agent.id}/delegations", **params)
    assert answer.status_code == 200, answer.text
    rows = answer.json()
    assert isinstance(rows, list)
    return rows


# The wire contract of existing clients.


async def test_delegate_answers_202_and_a_repeat_200(caller: Agent, callee: Agent) -> None:
    """D2: the key is known again, with the status that the delegation has now."""
    first = await delegate(caller, callee, idempotency_key="k")
    name = first.json()["delegation_id"]
    assert str(uuid.UUID(name)) == name
    assert first.status_code == 202
    assert first.json().items() >= {"status": "delegated", "target_id": callee.id}.items()
    assert "idempotent_hit" not in first.json() or not first.json()["idempotent_hit"]
    again = await delegate(caller, callee, idempotency_key="k")
    assert again.status_code == 200
    assert (
        again.json().items()
        >= {
            "delegation_id": name,
            "status": "queued",
            "target_id": callee.id,
            "idempotent_hit": True,
        }.items()
    )


async def test_other_content_under_a_known_key_is_a_conflict(caller: Agent, callee: Agent) -> None:
    await delegated(caller, callee, idempotency_key="k")
    answer = await delegate(caller, callee, "another task", idempotency_key="k")
    assert answer.status_code == 409
    assert answer.json()["error"] == "this idempotency_key was used for another task"


async def test_a_key_is_its_organisations_alone(
    caller: Agent, callee: Agent, org: Organization, other_org: Organization
) -> None:
    """Who takes a purged id of another organisation meets none of that one's keys."""
    keys = ("same task", "other task")
    old = {await delegated(caller, callee, key, idempotency_key=key) for key in keys}
    await org.rest("DELETE", f"/workspaces/{caller.id}", confirm="true", purge="true")
    card = {"id": caller.id, "delivery_mode": "poll", "agent_card": {}}
    taken = await other_org.rest("POST", "/registry/register", card)
    party = caller.wire.party(taken.json()["auth_token"])
    next_holder = Agent(party.wire, party.headers, caller.id, taken.json()["auth_token"])
    colleague = await other_org.hire()
    path = f"/workspaces/{caller.id}/delegate"
    for sender in (next_holder, other_org):
        body = {"target_id": colleague.id, "task": "same task", "idempotency_key": "same task"}
        answer = await sender.rest("POST", path, body)
        assert answer.status_code == (202 if sender is next_holder else 200), answer.text
        assert answer.json()["delegation_id"] not in old
    again = await delegate(next_holder, colleague, "new", idempotency_key="other task")
    assert (again.status_code, again.json()["delegation_id"] in old) == (202, False)


async def test_message_ids_of_two_organisations_do_not_meet(
    callee: Agent, org: Organization, other_org: Organization, operator: Party
) -> None:
    """Callers that are no workspace have no id: each organisation's messages are its own."""
    other = await other_org.hire()
    part = {"kind": "text", "text": "hello"}
    params = {"message": {"role": "user", "messageId": "m1", "parts": [part]}}
    for sender, agent in ((org, callee), (other_org, other), (operator, await org.hire())):
        body = {"jsonrpc": "2.0", "id": "1", "method": "message/send", "params": params}
        sent = await sender.rest("POST", f"/workspaces/{agent.id}/a2a", body)
        assert sent.status_code == 200, sent.text
        got = await agent.rest("GET", f"/workspaces/{agent.id}/activity", type="a2a_receive")
        assert len(got.json()) == 1


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"target_id": "not-an-id"}, 400, "target_id must be a valid UUID"),
        ({"target_id": ""}, 400, None),
        ({"task": ""}, 400, None),
        ({"target_id": str(uuid.UUID(int=3))}, 404, "workspace not found"),
    ],
)
async def test_delegate_refuses_what_is_wrong(
    caller: Agent, callee: Agent, changes: dict[str, str], status: int, error: str | None
) -> None:
    body = {"target_id": callee.id, "task": "t", **changes}
    answer = await caller.rest("POST", f"/workspaces/{caller.id}/delegate", body)
    assert answer.status_code == status
    assert answer.json()["error"] == error if error else answer.json()["error"]


async def test_nobody_delegates_to_itself(caller: Agent) -> None:
    answer = await delegate(caller, caller)
    assert (answer.status_code, answer.json()["error"]) == (400, "self-delegation not permitted")


async def test_nobody_delegates_to_a_stranger(
    caller: Agent, org: Organization, other_org: Organization
) -> None:
    """A cousin is refused; another organisation's agent does not exist."""
    parent = await org.hire()
    cousin = await org.hire(parent_id=(await org.hire(parent_id=parent.id)).id)
    answer = await delegate(caller, cousin)
    assert (answer.status_code, answer.json()["error"]) == (
        403,
        "access denied: workspaces cannot communicate per hierarchy rules",
    )
    assert (await delegate(caller, await other_org.hire())).status_code == 404


async def test_removed_target_is_refused_at_once(
    caller: Agent, callee: Agent, org: Organization
) -> None:
    await org.rest("DELETE", f"/workspaces/{callee.id}", confirm="true")
    assert (await delegate(caller, callee)).status_code == 404


async def test_record_answers_202_and_a_repeat_too(
    caller: Agent, callee: Agent, org: Organization
) -> None:
    """D13."""
    name = f"mine-{uuid.uuid4()}"
    body = {"target_id": callee.id, "task": "t", "delegation_id": name}
    path = f"/workspaces/{caller.id}/delegations/record"
    for _ in range(2):
        answer = await caller.rest("POST", path, body)
        assert told(answer) == (202, {"delegation_id": name, "status": "recorded"})
    (row,) = await listed(caller)
    assert (row["delegation_id"], row["status"]) == (name, "dispatched")
    third = await org.hire()
    taken = await third.rest("POST", f"/workspaces/{third.id}/delegations/record", body)
    assert taken.status_code == 409


async def test_update_answers_with_status_and_applied(caller: Agent, callee: Agent) -> None:
    """D4, D5: the first final report wins; the same again is success, another is not applied."""
    name = await delegated(caller, callee)
    done = await update(callee, name, status="completed", response_preview="the text")
    assert told(done) == (
        200,
        {"status": "completed", "delegation_id": name, "applied": True},
    )
    same = await update(callee, name, status="completed", response_preview="the text")
    assert told(same) == told(done)
    other = await update(callee, name, status="failed", error="no")
    assert told(other) == (
        200,
        {"status": "completed", "delegation_id": name, "applied": False},
    )


@pytest.mark.parametrize("status", ["queued", "dispatched", "stuck", "received", "", None, 7])
async def test_update_takes_only_what_an_agent_may_say(
    caller: Agent, callee: Agent, status: Any
) -> None:
    """D7, D11: the runtime posts `queued`, reads 400 and goes on."""
    name = await delegated(caller, callee)
    body = {} if status is None else {"status": status}
    answer = await update(callee, name, **body)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert (await listed(caller))[0]["status"] == "queued"


async def test_update_of_a_foreign_or_unknown_delegation_is_404(
    caller: Agent, callee: Agent, org: Organization
) -> None:
    name = await delegated(caller, callee)
    stranger = await org.hire()
    for agent, wanted in ((stranger, name), (callee, "unknown")):
        answer = await update(agent, wanted, status="completed", response_preview="x")
        assert told(answer) == (404, {"error": "delegation not found"})


async def test_heartbeat_of_a_delegation(caller: Agent, callee: Agent) -> None:
    """D8."""
    name = await delegated(caller, callee)
    path = f"/workspaces/{callee.id}/delegations/{name}/heartbeat"
    beat = await callee.rest("POST", path, {})
    assert told(beat) == (200, {"status": "in_progress", "delegation_id": name, "applied": True})
    await update(callee, name, status="failed", error="no")
    late = await callee.rest("POST", path)
    assert told(late) == (200, {"status": "failed", "delegation_id": name, "applied": False})


async def test_list_is_a_bare_array_newest_first(caller: Agent, callee: Agent) -> None:
    assert await listed(caller) == []
    names = [await delegated(caller, callee, f"task {n}") for n in range(3)]
    rows = await listed(caller)
    assert [row["delegation_id"] for row in rows] == names[::-1]
    row = rows[0]
    assert (
        row.items()
        >= {
            "id": names[-1],
            "type": "delegation",
            "source_id": caller.id,
            "target_id": callee.id,
            "summary": "task 2",
            "status": "queued",
            "direction": "sent",
        }.items()
    )
    assert [row["direction"] for row in await listed(callee)] == ["received"] * 3


async def test_list_shows_the_start_of_a_result_and_get_all_of_it(
    caller: Agent, callee: Agent
) -> None:
    """D12: over both ways."""
    name = await delegated(caller, callee)
    text = "é" * 3000
    await update(callee, name, status="completed", response_preview=text)
    (row,) = await listed(caller)
    assert row["response_preview"] == "é" * 299 + "…"
    assert row["summary"] == "Delegation completed: " + "é" * 79 + "…"
    assert not {"result", "failure_reason"} & row.keys()
    whole = await caller.rest("GET", f"/workspaces/{caller.id}/delegations/{name}")
    assert whole.json()["result"] == text
    assert "failure_reason" not in whole.json()
    got = await caller.rpc(pb.GetDelegationRequest(workspace_id=caller.id, delegation_id=name))
    assert (got.result, got.status, got.truncated) == (text, Status.completed, False)


async def test_failure_is_listed_with_its_reason(caller: Agent, callee: Agent) -> None:
    name = await delegated(caller, callee)
    await update(callee, name, status="failed", error="out of tea")
    (row,) = await listed(caller)
    assert (row["status"], row["error"], row["failure_reason"]) == (
        "failed",
        "out of tea",
        "agent_error",
    )
    assert "response_preview" not in row


async def test_pages_follow_each_other(caller: Agent, callee: Agent) -> None:
    names = [await delegated(caller, callee) for _ in range(5)]
    seen: list[str] = []
    token = ""
    while True:
        answer = await caller.rest(
            "GET", f"/workspaces/{caller.id}/delegations", limit=2, page_token=token
        )
        seen += [row["delegation_id"] for row in answer.json()]
        token = answer.headers.get("x-next-page-token", "")
        if not token:
            break
    assert seen == names[::-1]


@pytest.mark.parametrize(
    "token",
    ["x", "bnVsbA==", "WzEsMl0=", "é", "W10=", "WyIwMDAxLTAxLTAxVDAwOjAwOjAwKzE0OjAwIiwieCJd"],
)
async def test_page_token_of_others_is_refused(caller: Agent, token: str) -> None:
    answer = await caller.rest("GET", f"/workspaces/{caller.id}/delegations", page_token=token)
    assert told(answer) == (400, {"error": "page_token is not one of ours"})


@pytest.mark.parametrize("params", [{"status": "lost"}, {"direction": "up"}, {"limit": 501}])
async def test_unknown_filters_are_refused(caller: Agent, params: dict[str, Any]) -> None:
    answer = await caller.rest("GET", f"/workspaces/{caller.id}/delegations", **params)
    assert answer.status_code == 400


# Waiting, and results that arrive.


async def test_caller_that_waits_gets_the_result(caller: Agent, callee: Agent) -> None:
    """D15: at once when it is there."""
    waiting = asyncio.create_task(delegate(caller, callee, wait_seconds=10))
    async with holding(callee) as held:
        item = await held.item()
    await update(callee, item.delegation_id, status="completed", response_preview="42")
    answer = await waiting
    assert answer.status_code == 200
    body = answer.json()
    assert (body["status"], body["delegation"]["result"]) == ("completed", "42")


async def test_result_arrives_although_nobody_waits_any_more(caller: Agent, callee: Agent) -> None:
    """D15: the call has long returned; the inbox has the result."""
    answer = await delegate(caller, callee, wait_seconds=1)
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    name = answer.json()["delegation_id"]
    await update(callee, name, status="completed", response_preview="late, but whole")
    async with holding(caller) as held:
        item = await held.item()
    assert (item.method, item.delegation_id, item.status) == ("delegate_result", name, "ok")
    assert (item.text, item.source_id) == ("late, but whole", callee.id)


@pytest.mark.parametrize(("status", "word"), [("completed", "ok"), ("failed", "error")])
async def test_poller_finds_one_row_for_each_outcome(
    caller: Agent, callee: Agent, status: str, word: str
) -> None:
    """D10, D14: one `a2a_receive` row from itself, and the record tells the same."""
    name = await delegated(caller, callee)
    for _ in range(2):
        await update(callee, name, status=status, response_preview="text", error="text")
    rows = (await caller.rest("GET", f"/workspaces/{caller.id}/activity")).json()
    result = [row for row in rows if row["activity_type"] == "a2a_receive"]
    assert len(result) == 1
    assert (result[0]["method"], result[0]["status"]) == ("delegate_result", word)
    assert (result[0]["source_id"], result[0]["target_id"]) == (caller.id, callee.id)
    assert result[0]["request_body"] == {"delegation_id": name}
    body = result[0]["response_body"]
    assert (body["text"], body["delegation_id"]) == ("text", name)
    record = [row["status"] for row in rows if row["activity_type"] == "delegation"]
    assert record == [status, "pending"]


async def test_features_need_no_flag(caller: Agent, callee: Agent, server: Any) -> None:
    """D16: the server of these tests sets none of the three, and all three work."""
    flags = ("DELEGATION_LEDGER_WRITE", "DELEGATION_RESULT_INBOX_PUSH", "DELEGATION_SYNC_VIA_INBOX")
    log = server.log.read_text()
    assert not any(flag in log for flag in flags)
    name = await delegated(caller, callee)
    await update(callee, name, status="completed", response_preview="x")
    assert (await listed(caller))[0]["status"] == "completed"


# The same over gRPC.


async def test_grpc_says_the_same(caller: Agent, callee: Agent) -> None:
    request = pb.DelegateRequest(
        workspace_id=caller.id, target_id=callee.id, task="t", idempotency_key="k"
    )
    first = await caller.rpc(request)
    assert (first.status, first.idempotent_hit) == ("delegated", False)
    again = await caller.rpc(request)
    assert (again.delegation_id, again.idempotent_hit) == (first.delegation_id, True)
    request.task = "another"
    with pytest.raises(Refused) as refused:
        await caller.rpc(request)
    assert (refused.value.code, refused.value.reason) == ("ABORTED", "IDEMPOTENCY_MISMATCH")


@pytest.mark.parametrize(
    ("target", "code", "reason"),
    [
        ("self", "INVALID_ARGUMENT", "SELF_DELEGATION"),
        ("unknown", "NOT_FOUND", "WORKSPACE_NOT_FOUND"),
        ("cousin", "PERMISSION_DENIED", "NOT_RELATED"),
    ],
)
async def test_grpc_names_the_reason(
    caller: Agent, org: Organization, target: str, code: str, reason: str
) -> None:
    parent = await org.hire()
    cousin = await org.hire(parent_id=(await org.hire(parent_id=parent.id)).id)
    targets = {"self": caller.id, "unknown": str(uuid.UUID(int=3)), "cousin": cousin.id}
    request = pb.DelegateRequest(workspace_id=caller.id, target_id=targets[target], task="t")
    with pytest.raises(Refused) as refused:
        await caller.rpc(request)
    assert (refused.value.code, refused.value.reason) == (code, reason)
