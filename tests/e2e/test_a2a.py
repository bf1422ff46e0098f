"""Messages to agents with a URL, over the wire: REST as existing clients know it, and gRPC."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import httpx
import pytest
from moleculeai.admin.v1 import admin_service_pb2 as admin_pb
from moleculeai.delegation.v1 import delegation_service_pb2 as pb
from moleculeai.delegation.v1.delegation_service_pb2_grpc import DelegationServiceStub

from tests import fake_agent as agents
from tests.conftest import execute, with_database
from tests.e2e.calling import Office, a_message, send
from tests.e2e.parties import Agent, Refused, found, wire_to
from tests.fake_agent import FakeAgent, fake_agent
from tests.running import RunningServer
from tests.waiting import PATIENCE

NOWHERE = str(uuid.UUID(int=0))


@pytest.fixture(scope="module")
def calling_server(
    postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server that may call agents on this machine."""
    name = f"calling_{uuid.uuid4().hex[:12]}"
    asyncio.run(execute(postgres, f"CREATE DATABASE {name} TEMPLATE {template}"))
    running = RunningServer(
        with_database(postgres, name),
        tmp_path_factory.mktemp("calling"),
        MOLECULE_ENV="development",
        MOLECULE_A2A_CANVAS_WAIT_SECONDS="1",
    )
    running.start()
    yield running
    running.kill()
    asyncio.run(execute(postgres, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="module")
async def office(calling_server: RunningServer) -> AsyncIterator[Office]:
    database = await asyncpg.connect(calling_server.database_url)
    async with wire_to(calling_server) as wire:
        operator = wire.party(calling_server.admin_token)
        yield Office(await found(wire, operator), operator, database)
    await database.close()


@pytest.fixture
async def agent() -> AsyncIterator[FakeAgent]:
    async with fake_agent() as opened:
        yield opened


@pytest.fixture
async def sender(office: Office) -> Agent:
    return await office.org.hire()


@pytest.fixture
async def target(office: Office, agent: FakeAgent) -> Agent:
    return await office.listening(agent)


def told(answer: httpx.Response) -> tuple[int, Any]:
    """Status and body."""
    return answer.status_code, answer.json()


def test_metrics_are_there_before_anything_happens(calling_server: RunningServer) -> None:
    """Spec 16: every counter is visible at zero."""
    text = httpx.get(f"{calling_server.url}/metrics", timeout=PATIENCE).text
    for outcome in (
        "delivered",
        "refused",
        "busy_retryable",
        "delivered_unreadable",
        "upstream_dead",
        "unreachable",
    ):
        assert f'molecule_a2a_dispatch_total{{outcome="{outcome}"}} 0.0' in text
    assert "molecule_a2a_queue_redelivered_total 0.0" in text
    assert "molecule_phantom_busy_resets_total 0.0" in text
    for gauge in ("molecule_a2a_queue_depth", "molecule_a2a_queue_age_seconds"):
        assert f"\n{gauge}" in text


# The agent's answer reaches the sender unchanged.


async def test_the_agents_answer_passes_as_it_is(
    sender: Agent, target: Agent, agent: FakeAgent
) -> None:
    """Bytes, JSON-RPC id and error code untouched."""
    body = (
        b'{"jsonrpc": "2.0", "id":"custom-id-123","error":{"code":-32601,"message":"no"},"a":null}'
    )
    agent.behave = agents.answers(200, body)
    answer = await send(sender, target)
    assert (answer.status_code, answer.content) == (200, body)
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("status", [201, 302, 400, 401, 404, 418, 429, 500, 502, 503])
async def test_the_agents_status_passes(
    sender: Agent, target: Agent, agent: FakeAgent, status: int
) -> None:
    """Spec 2.4: also from 300 on."""
    agent.behave = agents.answers(status, {"error": "the agent's own"})
    assert told(await send(sender, target)) == (status, {"error": "the agent's own"})


async def test_an_answer_without_content_passes(
    sender: Agent, target: Agent, agent: FakeAgent
) -> None:
    agent.behave = agents.raw(b"HTTP/1.1 204 No Content\r\n\r\n")
    answer = await send(sender, target)
    assert (answer.status_code, answer.content) == (204, b"")


async def test_the_largest_answer_passes(sender: Agent, target: Agent, agent: FakeAgent) -> None:
    body = b'"' + b"x" * (10_485_760 - 2) + b'"'
    agent.behave = agents.answers(200, body)
    answer = await send(sender, target)
    assert (answer.status_code, len(answer.content)) == (200, 10_485_760)


async def test_a_bare_request_becomes_json_rpc(
    sender: Agent, target: Agent, agent: FakeAgent
) -> None:
    """`type` is accepted and stays as sent; the envelope and the message id are added."""
    bare = {
        "method": "message/send",
        "params": {"message": {"parts": [{"type": "text", "text": "x"}]}},
    }
    assert (await send(sender, target, bare)).status_code == 200
    [request] = agent.received
    assert request.body["jsonrpc"] == "2.0"
    message = request.body["params"]["message"]
    assert message["role"] == "user"
    assert message["parts"] == [{"type": "text", "text": "x"}]
    uuid.UUID(message["messageId"])
    assert request.body["id"] == message["messageId"]


async def test_the_sender_is_told_by_its_token_or_named(
    office: Office, sender: Agent, target: Agent
) -> None:
    """#2306: the record knows who spoke, by bearer alone, by `X-Workspace-ID`, or a human."""
    await send(sender, target)
    await send(office.operator, target, None, **{"x-workspace-id": sender.id})
    await send(office.operator, target)
    rows = (
        await target.rest("GET", f"/workspaces/{target.id}/activity", type="a2a_receive")
    ).json()
    assert [row.get("source_id") for row in rows] == [sender.id, sender.id, None]
    for row in rows:
        assert (row["method"], row["status"], row["target_id"]) == ("message/send", "ok", target.id)
        assert row["request_body"]["params"]["message"]["parts"][0]["text"] == "hi"
        assert row["response_body"]["id"] == "custom-id-123"
        assert row["duration_ms"] >= 0
        assert "seq" not in row


async def test_a_humans_answer_is_shown_to_whoever_looks(
    office: Office, sender: Agent, target: Agent
) -> None:
    """Spec 2.4: the event A2A_RESPONSE, for humans only."""
    await send(sender, target)
    await send(office.operator, target)
    [event] = await office.database.fetch(
        "SELECT payload::text FROM live_events"
        " WHERE event_type = 'A2A_RESPONSE' AND workspace_id = $1",
        target.id,
    )
    shown = json.loads(event["payload"])
    assert shown.keys() == {"response_body", "method", "duration_ms"}
    assert shown["response_body"]["id"] == "custom-id-123"


async def test_grpc_callers_read_the_agents_status_in_a_header(
    office: Office, sender: Agent, target: Agent, agent: FakeAgent
) -> None:
    agent.behave = agents.answers(404, {"error": "who?"})
    request = pb.SendMessageRequest(workspace_id=target.id)
    request.body.data = json.dumps(a_message()).encode()
    call = DelegationServiceStub(sender.wire.channel).SendMessage(
        request, metadata=tuple(sender.headers.items())
    )
    body = await call
    assert json.loads(body.data) == {"error": "who?"}
    headers = dict(await call.initial_metadata())
    assert headers["x-agent-status"] == "404"
    assert "x-http-code" not in headers


async def test_a_trace_goes_on_at_the_agent(sender: Agent, target: Agent, agent: FakeAgent) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await send(sender, target, None, traceparent=trace)
    [request] = agent.received
    assert request.headers["traceparent"] == trace
    assert "authorization" not in request.headers


# What the platform answers instead. Bodies and statuses are those that clients branch on.


async def test_no_answer_because_the_agent_is_busy(
    sender: Agent, target: Agent, agent: FakeAgent
) -> None:
    agent.behave = agents.hangs_up
    status, body = told(await send(sender, target))
    assert status == 202
    assert body == {
        "queued": True,
        "queue_id": body["queue_id"],
        "queue_depth": 1,
        "message": "workspace agent is busy; the message is queued and will be delivered",
    }
    uuid.UUID(body["queue_id"])


async def test_no_answer_for_as_long_as_the_runtime_allows(
    sender: Agent, target: Agent, agent: FakeAgent
) -> None:
    """Spec 2.4: `idle_timeout_seconds` of its heartbeat, until another one says otherwise."""
    agent.behave = agents.hangs
    for metadata in ({"idle_timeout_seconds": 1}, {}):
        beat = {"workspace_id": target.id, "runtime_metadata": metadata}
        assert (await target.rest("POST", "/registry/heartbeat", beat)).status_code == 200
    assert told(await send(sender, target))[0] == 202


async def test_no_answer_because_nobody_listens(office: Office, sender: Agent) -> None:
    async with fake_agent() as gone:
        target = await office.listening(gone)
    answer = await send(sender, target)
    assert told(answer) == (502, {"error": "failed to reach workspace agent"})


async def test_no_answer_because_the_url_leads_astray(office: Office, sender: Agent) -> None:
    """I-PX-4: checked again at dispatch, whatever registration let through."""
    target = await office.listening(None, url="http://169.254.169.254/latest/")
    answer = await send(sender, target)
    assert told(answer) == (502, {"error": "workspace URL is not publicly routable"})


async def test_no_answer_because_it_was_lost(
    sender: Agent, target: Agent, agent: FakeAgent
) -> None:
    """I-PX-3: the sender learns that the message was delivered."""
    agent.behave = agents.answers(200, b"<html>")
    status, body = told(await send(sender, target))
    assert (status, body["delivery_confirmed"]) == (502, True)
    assert "delivered" in body["error"]


async def test_no_answer_because_there_is_no_url(office: Office, sender: Agent) -> None:
    target = await office.listening(None)
    answer = await send(sender, target)
    assert told(answer) == (503, {"error": "workspace has no URL", "retry_after": 15})
    assert answer.headers["retry-after"] == "15"


async def test_no_answer_because_it_sleeps(office: Office, sender: Agent, agent: FakeAgent) -> None:
    target = await office.listening(agent, status="hibernated")
    answer = await send(sender, target)
    assert told(answer) == (
        503,
        {"error": "the workspace is waking up", "waking": True, "retry_after": 15},
    )
    assert answer.headers["retry-after"] == "15"
    assert agent.received == []


async def test_no_answer_because_the_budget_is_used_up(
    office: Office, sender: Agent, agent: FakeAgent
) -> None:
    target = await office.listening(agent, budget_limit=100, monthly_spend=100)
    status, body = told(await send(sender, target))
    assert (status, body) == (402, {"error": "the workspace's monthly budget is used up"})
    assert agent.received == []


async def test_no_answer_because_they_are_not_related(
    office: Office, target: Agent, agent: FakeAgent
) -> None:
    boss = await office.org.hire()
    stranger = await office.org.hire(parent_id=boss.id)
    status, body = told(await send(stranger, target))
    assert status == 403
    assert body["error"].startswith("access denied")
    assert agent.received == []


@pytest.mark.parametrize("prefix", ["webhook:", "system:", "test:", "channel:"])
async def test_no_answer_because_the_caller_claims_to_be_the_platform(
    sender: Agent, target: Agent, prefix: str
) -> None:
    answer = await send(sender, target, None, **{"x-workspace-id": f"{prefix}x"})
    assert told(answer) == (403, {"error": "invalid caller ID"})


async def test_no_answer_because_the_token_is_anothers(
    office: Office, sender: Agent, target: Agent
) -> None:
    other = await office.org.hire()
    answer = await send(sender, target, None, **{"x-workspace-id": other.id})
    assert answer.status_code == 401


async def test_no_answer_because_there_is_no_such_workspace(office: Office, sender: Agent) -> None:
    ghost = Agent(sender.wire, sender.headers, NOWHERE, "")
    assert (await send(sender, ghost)).status_code == 404


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"params":{}}', b'{"method":"message/send","params":{"message":{}}}']
)
async def test_no_answer_because_it_is_no_message(
    sender: Agent, target: Agent, agent: FakeAgent, body: bytes
) -> None:
    answer = await send(sender, target, body)
    assert answer.status_code == 400
    assert "error" in answer.json()
    assert agent.received == []


async def test_no_answer_because_it_is_too_large(
    sender: Agent, target: Agent, agent: FakeAgent
) -> None:
    """D9: 1 MiB, refused loudly and never cut."""
    body = json.dumps(a_message("x" * 1_048_576)).encode()
    status, said = told(await send(sender, target, body))
    assert (status, said["max"]) == (413, 1_048_576)
    assert agent.received == []


async def test_the_poll_answer_is_what_it_was(office: Office, sender: Agent) -> None:
    """Spec 2.3: exactly this, or older clients send again."""
    target = await office.org.hire()
    assert told(await send(sender, target)) == (
        200,
        {"status": "queued", "delivery_mode": "poll", "method": "message/send"},
    )


# Callers who do not wait.


async def test_a_human_gets_a_receipt_after_a_while(
    office: Office, target: Agent, agent: FakeAgent
) -> None:
    """Spec 2.4: 90 s (here one), then `push-async`; the answer waits in the queue."""
    answer = asyncio.Event()
    agent.behave = agents.waits_for(answer, agents.says("at last"))
    status, body = told(await send(office.operator, target))
    assert (status, body) == (
        200,
        {
            "status": "queued",
            "delivery_mode": "push-async",
            "method": "message/send",
            "queue_id": body["queue_id"],
        },
    )
    answer.set()
    queued = await until(office, target, body["queue_id"], "completed")
    assert queued["response_body"]["result"]["parts"][0]["text"] == "at last"


async def test_a_caller_says_how_long_it_waits(
    sender: Agent, target: Agent, agent: FakeAgent
) -> None:
    agent.behave = agents.hangs
    _, body = told(await send(sender, target, None, **{"x-timeout": "0.3"}))
    assert body["delivery_mode"] == "push-async"


@pytest.mark.clock
async def test_a_grpc_deadline_is_answered_before_it_passes(
    sender: Agent, target: Agent, agent: FakeAgent
) -> None:
    """A receipt is worth more than DEADLINE_EXCEEDED and a message sent twice."""
    agent.behave = agents.hangs
    request = pb.SendMessageRequest(workspace_id=target.id)
    request.body.data = json.dumps(a_message()).encode()
    body = await DelegationServiceStub(sender.wire.channel).SendMessage(
        request, metadata=tuple(sender.headers.items()), timeout=2
    )
    assert json.loads(body.data)["delivery_mode"] == "push-async"


async def test_a_client_that_hangs_up_does_not_stop_the_message(
    office: Office, sender: Agent, target: Agent, agent: FakeAgent
) -> None:
    answer = asyncio.Event()
    agent.behave = agents.waits_for(answer, agents.says("done"))
    path = f"/workspaces/{target.id}/a2a"
    sending = asyncio.create_task(sender.rest("POST", path, a_message()))
    await agent.wait(1)
    sending.cancel()
    await asyncio.wait({sending})
    answer.set()
    async with asyncio.timeout(PATIENCE):
        while not (rows := await activity(target)):
            pass
    assert rows[0]["response_body"]["result"]["parts"][0]["text"] == "done"


async def activity(hired: Agent) -> list[dict[str, Any]]:
    rows = (await hired.rest("GET", f"/workspaces/{hired.id}/activity")).json()
    assert isinstance(rows, list)
    return rows


# Delegations that an operator tries again.


async def test_what_failed_is_tried_again_at_the_agents_url(
    office: Office, sender: Agent, target: Agent, agent: FakeAgent
) -> None:
    """At once, as a delegation of its own: the task is the same, and its caller hears of both."""
    agent.script = [agents.answers(400, {"error": "not today"})]
    body = {"target_id": target.id, "task": "count the words", "wait_seconds": 10}
    path = f"/workspaces/{sender.id}/delegate"
    failed = (await sender.rest("POST", path, body)).json()
    assert (failed["status"], failed["delegation"]["failure_reason"]) == ("failed", "refused")
    name = failed["delegation_id"]
    made = [await office.org.rest("POST", f"/admin/delegations/{name}/retry") for _ in range(2)]
    assert [answer.status_code for answer in made] == [200, 200]
    [again] = {answer.json()["delegation_id"] for answer in made}
    _, second = await agent.wait(2)
    assert (second.text, second.message_id) == ("count the words", again)
    assert second.body["params"]["message"]["metadata"] == {"delegation_id": again}
    async with asyncio.timeout(PATIENCE):
        while True:
            path = f"/workspaces/{sender.id}/delegations/{again}"
            found = (await sender.rest("GET", path)).json()
            if found["status"] == "completed":
                break
    assert (found["result"], found["retry_of"]) == ("echo: count the words", name)
    items = (await sender.rest("GET", f"/workspaces/{sender.id}/inbox")).json()["items"]
    assert [(item["delegation_id"], item["status"]) for item in items] == [
        (name, "error"),
        (again, "ok"),
    ]
    assert len(agent.received) == 2


# The queue through its RPCs.


async def until(office: Office, target: Agent, queue_id: str, status: str) -> dict[str, Any]:
    """A queued message, when it has come so far."""
    async with asyncio.timeout(PATIENCE):
        while True:
            answer = await office.operator.rest(
                "GET", f"/workspaces/{target.id}/a2a/queue/{queue_id}"
            )
            body: dict[str, Any] = answer.json()
            if body["status"] == status:
                return body
            await asyncio.sleep(0.05)


async def test_a_queued_message_arrives_when_the_agent_has_room(
    office: Office, sender: Agent, target: Agent, agent: FakeAgent
) -> None:
    """I-Q-1, I-PX-1: the status tells its way; body and sender stay private."""
    agent.script = [agents.hangs_up]
    _, body = told(await send(sender, target, a_message("later", messageId="m1")))
    queued = await until(office, target, body["queue_id"], "completed")
    assert agent.message_ids == ["m1", "m1"]
    assert queued.pop("response_body")["result"]["parts"][0]["text"] == "echo: later"
    assert (queued["priority"], queued["attempts"]) == (50, 0)
    assert queued.keys() == {
        "queue_id", "workspace_id", "status", "priority", "attempts", "enqueued_at",
        "dispatched_at", "completed_at", "expires_at",
    }  # fmt: skip


async def test_a_heartbeat_with_room_drains_the_queue(
    office: Office, sender: Agent, target: Agent, agent: FakeAgent
) -> None:
    """Spec 3.2: an agent at its limit is sent nothing before it reports room."""

    async def beat(active: int) -> None:
        body = {"workspace_id": target.id, "active_tasks": active}
        assert (await target.rest("POST", "/registry/heartbeat", body)).status_code == 200

    await beat(1)
    answer = await sender.rest(
        "POST", f"/workspaces/{sender.id}/delegate", {"target_id": target.id, "task": "x"}
    )
    assert answer.status_code == 202
    await beat(1)
    assert agent.received == []
    await beat(0)
    await agent.wait(1)


async def test_who_may_ask_what_became_of_a_message(
    office: Office, sender: Agent, target: Agent, agent: FakeAgent
) -> None:
    """404 for strangers, 401 for a token that is none, 403 for a caller that cannot be."""
    agent.behave = agents.hangs_up
    _, body = told(await send(sender, target))
    path = f"/workspaces/{target.id}/a2a/queue/{body['queue_id']}"
    for party in (sender, target, office.org, office.operator):
        assert (await party.rest("GET", path)).status_code == 200
    stranger = await office.org.hire()
    other_org = await found(sender.wire, office.operator)
    for party in (stranger, other_org, await other_org.hire()):
        assert told(await party.rest("GET", path)) == (404, {"error": "queued message not found"})
    wrong = sender.wire.party("x" * 43)
    assert (await wrong.rest("GET", path)).status_code == 401
    forged = sender.wire.party(sender.token, x_workspace_id="system:x")
    assert (await forged.rest("GET", path)).status_code == 403
    elsewhere = f"/workspaces/{sender.id}/a2a/queue/{body['queue_id']}"
    assert (await sender.rest("GET", elsewhere)).status_code == 404
    nothing = f"/workspaces/{target.id}/a2a/queue/{NOWHERE}"
    assert (await sender.rest("GET", nothing)).status_code == 404
    nonsense = f"/workspaces/{target.id}/a2a/queue/x"
    assert (await sender.rest("GET", nonsense)).status_code == 400


async def test_operators_let_go_of_what_is_stale(
    office: Office, sender: Agent, target: Agent, agent: FakeAgent
) -> None:
    agent.behave = agents.hangs_up
    _, body = told(await send(sender, target))
    drop = "/admin/a2a-queue/drop-stale"
    params = {"workspace_id": target.id}
    assert told(await office.operator.rest("POST", drop, **params)) == (200, {"dropped": 0})
    await office.database.execute(
        "UPDATE a2a_queue SET enqueued_at = now() - interval '2 hours' WHERE id = $1",
        body["queue_id"],
    )
    other_org = await found(sender.wire, office.operator)
    assert told(await other_org.rest("POST", drop, **params)) == (200, {"dropped": 0})
    assert (await sender.rest("POST", drop, **params)).status_code == 401
    answer = await office.org.rest("POST", drop, max_age_minutes=119, **params)
    assert told(answer) == (200, {"dropped": 1})
    dropped = await until(office, target, body["queue_id"], "dropped")
    assert dropped["last_error"] == "dropped from the queue by an operator"


@pytest.mark.parametrize("minutes", [0, -1, -2_000_000_000])
async def test_staleness_begins_at_a_minute(office: Office, minutes: int) -> None:
    """Spec 3.2: below 1 it is 400."""
    answer = await office.operator.rest(
        "POST", "/admin/a2a-queue/drop-stale", max_age_minutes=minutes
    )
    assert told(answer) == (400, {"error": "max_age_minutes must be at least 1"})
    with pytest.raises(Refused) as refused:
        await office.operator.rpc(admin_pb.DropStaleQueueRequest(max_age_minutes=minutes))
    assert refused.value.code == "INVALID_ARGUMENT"


# Delegations.


async def test_a_delegation_to_an_agent_with_a_url_ends_like_any_other(
    sender: Agent, target: Agent, agent: FakeAgent
) -> None:
    """D10, D12, D14, D49: ledger, record and inbox of the caller, without anybody polling."""
    answer = await sender.rest(
        "POST",
        f"/workspaces/{sender.id}/delegate",
        {"target_id": target.id, "task": "count", "wait_seconds": 10},
    )
    assert answer.status_code == 200
    body = answer.json()
    assert (body["status"], body["delegation"]["result"]) == ("completed", "echo: count")
    [request] = agent.received
    assert request.message_id == body["delegation_id"]
    [item] = (await sender.rest("GET", f"/workspaces/{sender.id}/inbox")).json()["items"]
    assert (item["method"], item["text"]) == ("delegate_result", "echo: count")
    mine, its = await activity(sender), await activity(target)
    assert mine[0]["response_body"]["delegation_id"] == body["delegation_id"]
    assert [row["method"] for row in its] == ["delegate"]


async def test_a_result_outlasts_the_patience_of_its_caller(
    sender: Agent, target: Agent, agent: FakeAgent
) -> None:
    """D15: a late answer arrives in the caller's inbox."""
    answer = asyncio.Event()
    agent.behave = agents.waits_for(answer, agents.says("at last"))
    body = {"target_id": target.id, "task": "x", "wait_seconds": 1}
    accepted = await sender.rest("POST", f"/workspaces/{sender.id}/delegate", body)
    assert (accepted.status_code, accepted.json()["status"]) == (202, "dispatched")
    answer.set()
    pulled = await sender.rest("GET", f"/workspaces/{sender.id}/inbox", wait_seconds=10)
    assert [item["text"] for item in pulled.json()["items"]] == ["at last"]


async def test_a_url_that_may_not_be_called_is_not_registered(sender: Agent) -> None:
    """I-PX-4: the first of the three places."""
    body = {"id": sender.id, "delivery_mode": "push", "agent_card": {}}
    answer = await sender.rest(
        "POST", "/registry/register", {**body, "url": "http://169.254.169.254/"}
    )
    assert answer.status_code == 400
