"""The tools, used by real clients of the Model Context Protocol through Envoy."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

import pytest
from google.api import httpbody_pb2
from mcp import ClientSession, MCPError
from mcp.client.streamable_http import streamable_http_client
from moleculeai.delegation.v1 import delegation_service_pb2 as delegation
from moleculeai.workspace.v1 import workspace_service_pb2 as workspace

from molecule_grpc.faces.mcp.counting import TOOLS
from tests.e2e.mcp_clients import MODES, ToolFailed, http_of, path_of, session_of, tool_call
from tests.e2e.parties import Agent, Organization, found, wire_to
from tests.running import RunningServer
from tests.waiting import until

ITEM = {
    "activity_id",
    "text",
    "peer_id",
    "kind",
    "method",
    "created_at",
    "peer_name",
    "peer_role",
    "agent_card_url",
}
# Longer than the server itself looks without being woken.
PATIENT = 20


@pytest.fixture
async def alice(org: Organization) -> Agent:
    return await org.hire("alice", role="lead")


@pytest.fixture
async def bob(org: Organization) -> Agent:
    return await org.hire("bob", role="worker")


async def tell(party: Organization | Agent, target: Agent, text: str) -> None:
    """Send a message to a workspace's inbox."""
    message = {"role": "user", "parts": [{"kind": "text", "text": text}]}
    answer = await party.rest(
        "POST",
        f"/workspaces/{target.id}/a2a",
        {"method": "message/send", "params": {"message": message}},
    )
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("mode", MODES)
async def test_a_client_opens_and_finds_the_tools(
    alice: Agent, server: RunningServer, mode: str
) -> None:
    """In old revisions and new; speaking to the human has to be allowed first."""
    async with session_of(alice, server, mode) as session:
        assert [tool.name for tool in (await session.client.list_tools()).tools] == [*TOOLS]
        with pytest.raises(MCPError, match="unknown tool: send_message_to_user"):
            await session.use("send_message_to_user", message="hello")


async def test_a_plain_session_opens_with_a_handshake(alice: Agent, server: RunningServer) -> None:
    async with (
        http_of(alice) as http,
        streamable_http_client(f"{server.url}{path_of(alice)}", http_client=http) as streams,
        ClientSession(*streams) as session,
    ):
        opened = await session.initialize()
        assert (opened.server_info.name, opened.protocol_version) == ("molecule-a2a", "2025-11-25")
        assert opened.instructions
        assert opened.capabilities.tools is not None
        await session.send_ping()
        assert not (await session.call_tool("inbox_peek", {})).is_error


@pytest.mark.parametrize("mode", MODES)
async def test_two_agents_hand_work_over_and_answer(
    alice: Agent, bob: Agent, server: RunningServer, mode: str
) -> None:
    """D46: waiting, peeking and popping work with a token and a workspace's id only."""
    async with session_of(alice, server, mode) as a, session_of(bob, server, mode) as b:
        given = await a.use("delegate_task_async", workspace_id=bob.id, task="count to three")
        assert given["status"] == "delegated"

        item = await b.use("wait_for_message", timeout_secs=PATIENT)
        assert set(item) == ITEM | {"task_id"}
        assert {name: item[name] for name in ITEM - {"activity_id", "created_at"}} == {
            "text": "count to three",
            "peer_id": alice.id,
            "kind": "peer_agent",
            "method": "delegate",
            "peer_name": "alice",
            "peer_role": "lead",
            "agent_card_url": "",
        }
        assert item["task_id"] == given["task_id"]
        assert await b.use("inbox_peek") == [item]
        done = await b.use(
            "update_task_status", task_id=item["task_id"], status="completed", text="1 2 3"
        )
        assert done == {"task_id": given["task_id"], "status": "completed", "applied": True}
        assert await b.use("inbox_pop", activity_id=item["activity_id"]) == {"removed": True}
        assert await b.use("inbox_pop", activity_id=item["activity_id"]) == {"removed": False}
        assert await b.use("wait_for_message", timeout_secs=0) == {}

        result = await a.use("wait_for_message", timeout_secs=PATIENT)
        assert set(result) == ITEM | {"task_id", "status", "late"}
        assert (result["text"], result["peer_id"], result["method"], result["status"]) == (
            "1 2 3",
            bob.id,
            "delegate_result",
            "ok",
        )
        status = await a.use("check_task_status", task_id=given["task_id"], workspace_id=bob.id)
        assert (status["status"], status["result"]) == ("completed", "1 2 3")


async def test_a_delegated_task_that_ends_soon_is_answered_at_once(
    alice: Agent, bob: Agent, server: RunningServer
) -> None:
    async with session_of(alice, server) as a, session_of(bob, server) as b:
        asked = asyncio.create_task(a.use("delegate_task", workspace_id=bob.id, task="add 1 and 1"))
        item = await b.use("wait_for_message", timeout_secs=PATIENT)
        await b.use("update_task_status", task_id=item["task_id"], status="completed", text="2")
        answer = await asked
    assert (answer["task_id"], answer["status"], answer["result"]) == (
        item["task_id"],
        "completed",
        "2",
    )
    assert "next" not in answer


@pytest.mark.clock
async def test_a_delegated_task_that_takes_longer_is_named(alice: Agent, bob: Agent) -> None:
    """A gRPC deadline shortens the wait of 30 s, and the answer still arrives."""
    body = httpbody_pb2.HttpBody(
        data=json.dumps(
            tool_call("delegate_task", {"workspace_id": bob.id, "task": "think"})
        ).encode()
    )
    call = alice.wire.channel.unary_unary(
        "/moleculeai.delegation.v1.DelegationService/CallMcp",
        request_serializer=delegation.CallMcpRequest.SerializeToString,
        response_deserializer=httpbody_pb2.HttpBody.FromString,
    )
    answer = await call(
        delegation.CallMcpRequest(workspace_id=alice.id, body=body),
        metadata=tuple(alice.headers.items()),
        timeout=3,
    )
    task = json.loads(json.loads(answer.data)["result"]["content"][0]["text"])
    assert task["status"] in ("queued", "dispatched")
    assert "check_task_status" in task["next"]
    stored = await alice.rpc(
        delegation.GetDelegationRequest(workspace_id=alice.id, delegation_id=task["task_id"])
    )
    assert stored.target_id == bob.id


async def test_a_reply_to_a_peer_is_a_tracked_delegation(
    alice: Agent, bob: Agent, server: RunningServer
) -> None:
    """D49: what a bridge delegates is in the ledger, and its id can be asked for."""
    await tell(alice, bob, "are you there?")
    async with session_of(bob, server) as b:
        item = await b.use("wait_for_message", timeout_secs=PATIENT)
        reply = await b.use("delegate_task_async", workspace_id=item["peer_id"], task="yes")
        status = await b.use("check_task_status", task_id=reply["task_id"])
    assert (status["workspace_id"], status["direction"]) == (alice.id, "sent")
    listed = await bob.rest("GET", f"/workspaces/{bob.id}/delegations")
    assert [row["delegation_id"] for row in listed.json()] == [reply["task_id"]]


async def test_what_an_agent_tells_the_human_is_kept_and_does_not_come_back(
    own_server: Callable[..., RunningServer],
) -> None:
    """D48: stored and shown, and no inbox item. D46: with token and workspace id only."""
    server = own_server(MOLECULE_MCP_ALLOW_SEND_MESSAGE="true")
    async with wire_to(server) as wire:
        agent = await (await found(wire, wire.party(server.admin_token))).hire()
        async with session_of(agent, server) as session:
            names = [tool.name for tool in (await session.client.list_tools()).tools]
            assert names == [*TOOLS, "send_message_to_user"]
            file = {"uri": "workspace:/report.pdf", "name": "report.pdf", "mimeType": "text/x"}
            sent = await session.use("send_message_to_user", message="done", attachments=[file])
            assert sent == {"status": "sent"}
            assert await session.use("wait_for_message", timeout_secs=0) == {}
        [row] = (await agent.rest("GET", f"/workspaces/{agent.id}/activity")).json()
    assert (row["method"], row["response_body"]["result"]) == ("notify", "done")
    assert row["response_body"]["parts"][0]["file"] == file


@pytest.mark.clock
async def test_a_waiting_agent_is_woken_by_a_message(
    org: Organization, alice: Agent, server: RunningServer
) -> None:
    """Sooner than the server would look by itself, which is after five seconds."""
    async with session_of(alice, server) as session:
        waiting = asyncio.create_task(session.use("wait_for_message", timeout_secs=60))
        done, _ = await asyncio.wait({waiting}, timeout=1)
        assert not done
        sent = time.monotonic()
        await tell(org, alice, "hello")
        item = await waiting
    assert time.monotonic() - sent < 3
    assert (item["text"], item["kind"], item["peer_id"], item["peer_name"]) == (
        "hello",
        "canvas_user",
        "",
        "",
    )


async def test_an_agent_that_waits_is_online(
    alice: Agent, bob: Agent, server: RunningServer
) -> None:
    """An MCP client has no heartbeat of its own: waiting for messages counts as one."""
    async with session_of(alice, server) as a, session_of(bob, server) as b:
        assert [peer["status"] for peer in await b.use("list_peers")] == ["awaiting_agent"]
        await a.use("wait_for_message", timeout_secs=0)
        assert [peer["status"] for peer in await b.use("list_peers")] == ["online"]


async def test_a_wait_ends_empty_when_nothing_comes(alice: Agent, server: RunningServer) -> None:
    async with session_of(alice, server) as session:
        started = time.monotonic()
        assert await session.use("wait_for_message", timeout_secs=1) == {}
        assert time.monotonic() - started >= 1


async def test_a_token_that_is_revoked_during_a_wait_gets_no_message(
    org: Organization, alice: Agent, server: RunningServer
) -> None:
    minted = await alice.rpc(workspace.CreateTokenRequest(workspace_id=alice.id))
    doomed = Agent(
        alice.wire, alice.wire.party(minted.auth_token).headers, alice.id, minted.auth_token
    )
    async with session_of(doomed, server) as session:
        waiting = asyncio.create_task(session.use("wait_for_message", timeout_secs=60))
        done, _ = await asyncio.wait({waiting}, timeout=1)
        assert not done
        await alice.rpc(workspace.RevokeTokenRequest(workspace_id=alice.id, token_id=minted.id))

        async def look() -> int:
            return (await doomed.rest("GET", f"/workspaces/{alice.id}/activity")).status_code

        # A worker learns of a revocation a moment after it is committed.
        await until(look, lambda status: status == 401)
        await tell(org, alice, "secret")
        with pytest.raises(ToolFailed, match="UNAUTHENTICATED"):
            await waiting


async def test_a_message_too_large_for_an_item_is_shown_whole(
    org: Organization, alice: Agent, server: RunningServer
) -> None:
    text = "x" * 400_000
    await tell(org, alice, text)
    async with session_of(alice, server) as session:
        assert (await session.use("wait_for_message", timeout_secs=PATIENT))["text"] == text


async def test_a_look_at_the_inbox_is_bounded_in_bytes(
    org: Organization, alice: Agent, server: RunningServer
) -> None:
    """Each message is whole, and the list ends with the one that makes it longer than 1 MiB."""
    for number in range(4):
        await tell(org, alice, f"{number}" * 400_000)
    async with session_of(alice, server) as session:
        texts = [item["text"] for item in await session.use("inbox_peek", limit=100)]
    assert texts == [f"{number}" * 400_000 for number in range(3)]


async def test_history_goes_back_page_by_page(
    alice: Agent, bob: Agent, server: RunningServer
) -> None:
    """Oldest first within a page; the oldest row's time leads to the page before."""
    for number in range(5):
        await tell(bob, alice, f"message {number}")
    async with session_of(alice, server) as session:
        newest = await session.use("chat_history", peer_id=bob.id, limit=3)
        assert [row["text"] for row in newest] == ["message 2", "message 3", "message 4"]
        older = await session.use("chat_history", peer_id=bob.id, before_ts=newest[0]["created_at"])
        assert [row["text"] for row in older] == ["message 0", "message 1"]
        assert set(older[0]) == ITEM
        assert older[0]["peer_name"] == "bob"


async def test_history_is_whole_though_messages_came_together(
    alice: Agent, bob: Agent, server: RunningServer
) -> None:
    await asyncio.gather(*(tell(bob, alice, str(number)) for number in range(20)))
    seen: list[str] = []
    async with session_of(alice, server) as session:
        page = await session.use("chat_history", peer_id=bob.id, limit=3)
        while page:
            seen += [row["text"] for row in page]
            before = page[0]["created_at"]
            page = await session.use("chat_history", peer_id=bob.id, limit=3, before_ts=before)
    assert sorted(seen) == sorted(map(str, range(20)))


async def test_the_outcome_of_a_task_is_history_with_its_peer(
    alice: Agent, bob: Agent, server: RunningServer
) -> None:
    async with session_of(alice, server) as a, session_of(bob, server) as b:
        given = await a.use("delegate_task_async", workspace_id=bob.id, task="work")
        await b.use(
            "update_task_status", task_id=given["task_id"], status="failed", text="no tools"
        )
        [row] = await a.use("chat_history", peer_id=bob.id)
        status = await a.use("check_task_status", task_id=given["task_id"])
    assert (row["peer_id"], row["peer_name"], row["text"]) == (bob.id, "bob", "no tools")
    assert (status["status"], status["error"], status["failure_reason"]) == (
        "failed",
        "no tools",
        "agent_error",
    )


async def test_peers_are_found_by_a_part_of_their_name(
    alice: Agent, bob: Agent, org: Organization, server: RunningServer
) -> None:
    await org.hire("carol")
    async with session_of(alice, server) as session:
        assert [peer["name"] for peer in await session.use("list_peers")] == ["bob", "carol"]
        assert await session.use("list_peers", q="BO") == [
            {
                "id": bob.id,
                "name": "bob",
                "role": "worker",
                "status": "awaiting_agent",
                "active_tasks": 0,
            }
        ]
        assert len(await session.use("list_peers", limit=1)) == 1


async def test_a_tool_that_fails_says_why_in_the_platforms_words(
    alice: Agent, other_org: Organization, server: RunningServer
) -> None:
    foreigner = await other_org.hire()
    async with session_of(alice, server) as session:
        for target, reason in ((alice, "SELF_DELEGATION"), (foreigner, "WORKSPACE_NOT_FOUND")):
            with pytest.raises(ToolFailed) as failed:
                await session.use("delegate_task_async", workspace_id=target.id, task="work")
            assert failed.value.error["reason"] == reason
            assert failed.value.error["error"]
        with pytest.raises(ToolFailed, match="DELEGATION_NOT_FOUND"):
            await session.use("check_task_status", task_id="unknown")


@pytest.mark.parametrize(
    ("tool", "arguments", "field"),
    [
        ("wait_for_message", {"timeout_secs": 301}, "timeout_secs"),
        ("wait_for_message", {"timeout_secs": "soon"}, "timeout_secs"),
        ("inbox_peek", {"limit": 0}, "limit"),
        ("inbox_peek", {"limit": 101}, "limit"),
        ("inbox_pop", {}, "activity_id"),
        ("inbox_pop", {"activity_id": "42"}, "activity_id"),
        ("chat_history", {"peer_id": None}, "peer_id"),
        ("chat_history", {"peer_id": "0" * 32, "before_ts": "yesterday"}, "before_ts"),
        ("delegate_task", {"workspace_id": "0" * 32}, "task"),
        ("delegate_task", {"workspace_id": "0" * 32, "task": ""}, "task"),
        ("delegate_task", {"workspace_id": "0" * 32, "task": "é" * 600_000}, "task"),
        ("update_task_status", {"task_id": "x", "status": "queued"}, "status"),
        ("list_peers", {"colour": "red"}, "colour"),
    ],
)
async def test_an_argument_at_fault_is_named(
    alice: Agent, server: RunningServer, tool: str, arguments: dict[str, object], field: str
) -> None:
    async with session_of(alice, server) as session:
        with pytest.raises(MCPError) as refused:
            await session.use(tool, **arguments)
    assert refused.value.error.code == -32602
    assert refused.value.error.data == {"field": field}
    assert field in refused.value.error.message
