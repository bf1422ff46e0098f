"""The endpoint of the Model Context Protocol as HTTP: who gets in, how often, with what."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import httpx
import pytest
from google.api import httpbody_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_MODERN_VERSION
from moleculeai.delegation.v1 import delegation_service_pb2 as delegation
from moleculeai.workspace.v1 import workspace_service_pb2 as workspace

from tests.conftest import LONG
from tests.e2e import garbage
from tests.e2e.mcp_clients import path_of, post, request, tool_call
from tests.e2e.parties import Agent, Organization, Party, Wire, found
from tests.running import RunningServer
from tests.waiting import PATIENCE

MODERN = {"mcp_protocol_version": LATEST_MODERN_VERSION}
ENVELOPE = {
    "_meta": {
        "io.modelcontextprotocol/protocolVersion": LATEST_MODERN_VERSION,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}
PING = request("ping")


def error_of(answer: httpx.Response) -> tuple[int, int]:
    """The HTTP status and the code of JSON-RPC."""
    return answer.status_code, answer.json()["error"]["code"]


def handshake(version: str) -> dict[str, Any]:
    client = {"name": "test", "version": "1"}
    return request(
        "initialize", {"protocolVersion": version, "capabilities": {}, "clientInfo": client}
    )


@pytest.fixture
async def alice(org: Organization) -> Agent:
    return await org.hire("alice")


# Who gets in.


async def test_who_has_no_token_is_refused(alice: Agent, stranger: Party) -> None:
    for form in (("POST", path_of(alice)), ("GET", path_of(alice) + "/stream")):
        answer = await stranger.rest(*form)
        assert (answer.status_code, answer.json()["error"]) == (401, "missing workspace auth token")


async def test_a_token_acts_only_as_its_own_workspace(org: Organization, alice: Agent) -> None:
    bob = await org.hire("bob")
    for form in (("POST", path_of(bob)), ("GET", path_of(bob) + "/stream")):
        answer = await alice.rest(*form)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid workspace auth token")


async def test_no_argument_makes_a_workspace_act_as_another(
    org: Organization, alice: Agent
) -> None:
    """A query that names another workspace, or an argument that does, changes nobody's inbox."""
    bob = await org.hire("bob")
    answer = await alice.wire.http.post(
        f"{path_of(alice)}?workspace_id={bob.id}", headers=alice.headers, json=PING
    )
    assert answer.status_code == 400
    named = tool_call("inbox_peek", {"workspace_id": bob.id})
    assert error_of(await post(alice, named)) == (200, -32602)


# How often.


async def test_a_token_has_120_messages_a_minute(org: Organization, alice: Agent) -> None:
    """Every answer says what is left. A batch counts as what it holds, or not at all."""
    for used in range(1, 118):
        answer = await post(alice, PING)
        assert answer.status_code == 200
        assert answer.headers["x-ratelimit-limit"] == "120"
        assert answer.headers["x-ratelimit-remaining"] == str(120 - used)
        assert 0 < int(answer.headers["x-ratelimit-reset"]) <= 60
    refused = await post(alice, [PING] * 4)
    assert refused.status_code == 429
    assert (await post(alice, [PING] * 3)).status_code == 200

    refused = await post(alice, PING)
    seconds = refused.json()["retry_after"]
    assert refused.status_code == 429
    assert refused.json() == {"error": "too many requests", "retry_after": seconds}
    assert refused.headers["retry-after"] == refused.headers["x-ratelimit-reset"] == str(seconds)
    assert refused.headers["x-ratelimit-remaining"] == "0"

    with pytest.raises(grpc.aio.AioRpcError) as exhausted:
        await _over_grpc(alice, json.dumps(PING).encode())
    assert exhausted.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

    for spelling in (f"bearer {alice.token}", f"Bearer   {alice.token}"):
        assert (await post(alice, PING, authorization=spelling)).status_code == 429

    other = await alice.rpc(workspace.CreateTokenRequest(workspace_id=alice.id))
    party = alice.wire.party(other.auth_token)
    answer = await party.rest("POST", path_of(alice), PING)
    assert answer.headers["x-ratelimit-remaining"] == "119"


# What is answered how.


async def test_a_notification_is_taken_without_a_word(alice: Agent) -> None:
    for body in (INITIALIZED, [INITIALIZED], {"jsonrpc": "2.0", "id": 7, "result": {}}):
        answer = await post(alice, body)
        assert (answer.status_code, answer.content) == (202, b"")


async def test_a_batch_is_answered_in_its_order(alice: Agent) -> None:
    batch = [request("ping", id="a"), INITIALIZED, request("nope", id=2), 5, request("ping", id=3)]
    answer = await post(alice, batch)
    assert answer.status_code == 200
    assert [(one["id"], one.get("error", {}).get("code")) for one in answer.json()] == [
        ("a", None),
        (2, -32601),
        (None, -32600),
        (3, None),
    ]


@pytest.mark.parametrize("batch", [[], [PING] * 21])
async def test_a_batch_holds_one_to_twenty_messages(alice: Agent, batch: list[object]) -> None:
    assert error_of(await post(alice, batch)) == (400, -32600)


async def test_a_batch_ends_where_its_answers_would_be_too_large(
    org: Organization, alice: Agent
) -> None:
    """What is not served is said to be, and changes nothing."""
    message = {"parts": [{"kind": "text", "text": "x" * 900_000}]}
    text = {"method": "message/send", "params": {"message": message}}
    assert (await org.rest("POST", f"/workspaces/{alice.id}/a2a", text)).status_code == 200
    [item] = json.loads(
        (await post(alice, tool_call("inbox_peek"))).json()["result"]["content"][0]["text"]
    )
    peek = tool_call("inbox_peek")
    pop = tool_call("inbox_pop", {"activity_id": item["activity_id"]})
    answers = (await post(alice, [peek, peek, peek, pop, INITIALIZED])).json()
    assert [one.get("error", {}).get("code") for one in answers] == [None, None, None, -32000]
    assert (await post(alice, pop)).json()["result"]["content"][0]["text"] == '{"removed":true}'


@pytest.mark.parametrize("version", HANDSHAKE_PROTOCOL_VERSIONS)
async def test_each_revision_is_spoken_back(alice: Agent, version: str) -> None:
    answer = await post(alice, handshake(version))
    assert answer.json()["result"]["protocolVersion"] == version
    listed = await post(alice, request("tools/list"), mcp_protocol_version=version)
    assert listed.json()["result"]["tools"]


async def test_an_unknown_revision_is_answered_with_the_newest(alice: Agent) -> None:
    answer = await post(alice, handshake("1999-01-01"))
    assert answer.json()["result"]["protocolVersion"] == HANDSHAKE_PROTOCOL_VERSIONS[-1]
    refused = await post(alice, PING, mcp_protocol_version="1999-01-01")
    assert error_of(refused) == (400, -32022)
    assert HANDSHAKE_PROTOCOL_VERSIONS[-1] in refused.json()["error"]["data"]["supported"]


async def test_headers_must_repeat_what_the_body_says(alice: Agent) -> None:
    """Where the revision asks for it, since others route by them."""
    discover = request("server/discover", ENVELOPE)
    named = await post(alice, discover, **MODERN, mcp_method="server/discover")
    assert named.json()["result"]["supportedVersions"] == [LATEST_MODERN_VERSION]
    assert error_of(await post(alice, discover, **MODERN)) == (400, -32020)
    assert error_of(await post(alice, request("server/discover"), **MODERN)) == (400, -32020)
    run = request("tools/call", {**ENVELOPE, "name": "inbox_peek", "arguments": {}})
    headers = {**MODERN, "mcp_method": "tools/call"}
    assert error_of(await post(alice, run, **headers, mcp_name="inbox_pop")) == (400, -32020)
    assert (await post(alice, run, **headers, mcp_name="inbox_peek")).status_code == 200
    ping = request("ping", ENVELOPE)
    assert error_of(await post(alice, ping, **MODERN, mcp_method="ping")) == (404, -32601)


async def test_there_is_no_stream_to_get(alice: Agent) -> None:
    """405, as the protocol demands of a server that starts no messages."""
    answer = await alice.rest("GET", path_of(alice))
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_an_older_client_learns_where_to_post(alice: Agent) -> None:
    """And how the stream ends: here because its token is revoked."""
    minted = await alice.rpc(workspace.CreateTokenRequest(workspace_id=alice.id))
    headers = alice.wire.party(minted.auth_token).headers
    async with alice.wire.http.stream("GET", path_of(alice) + "/stream", headers=headers) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        lines = aiter(answer.aiter_lines())
        async with asyncio.timeout(PATIENCE):
            opened = [await anext(lines) for _ in range(4)]
            assert opened == ["event: endpoint", f"data: {path_of(alice)}", "", ": ping"]
            await alice.rpc(workspace.RevokeTokenRequest(workspace_id=alice.id, token_id=minted.id))
            rest = [line async for line in lines if line and not line.startswith(":")]
    assert rest[0] == "event: end"
    assert json.loads(rest[1].removeprefix("data: "))["reason"] == "UNAUTHENTICATED"


async def test_rest_of_a_batch_is_not_served_after_a_revocation(
    org: Organization, alice: Agent
) -> None:
    minted = await alice.rpc(workspace.CreateTokenRequest(workspace_id=alice.id))
    headers = alice.wire.party(minted.auth_token).headers
    doomed = Agent(alice.wire, headers, alice.id, minted.auth_token)
    bob = await org.hire("bob")
    batch = [
        tool_call("wait_for_message", {"timeout_secs": 60}),
        tool_call("delegate_task_async", {"workspace_id": bob.id, "task": "too late"}),
    ]
    posting = asyncio.create_task(post(doomed, batch))
    done, _ = await asyncio.wait({posting}, timeout=1)
    assert not done
    await alice.rpc(workspace.RevokeTokenRequest(workspace_id=alice.id, token_id=minted.id))
    assert (await posting).status_code == 401
    listed = await alice.rest("GET", f"/workspaces/{alice.id}/delegations")
    assert listed.json() == []


# Whatever is posted.


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (400, -32700)),
        (b"\xff\xfe", (400, -32700)),
        (b"{", (400, -32700)),
        (b'{"jsonrpc":"2.0","id":NaN,"method":"ping"}', (400, -32700)),
        (b'"ping"', (400, -32600)),
        (b"{}", (400, -32600)),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', (400, -32600)),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', (400, -32600)),
        (b'{"jsonrpc":"2.0","id":1,"method":5}', (400, -32600)),
        (b'{"jsonrpc":"2.0","id":"\\ud800","method":"ping"}', (400, -32600)),
        (b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}', (400, -32600)),
        (b'{"jsonrpc":"2.0","id":1,"method":"initialize"}', (200, -32602)),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}', (200, -32602)),
        (b'{"jsonrpc":"2.0","id":1,"method":"resources/list"}', (200, -32601)),
        (b'{"jsonrpc":"2.0","id":1,"method":"server/discover"}', (200, -32601)),
    ],
)
async def test_what_is_wrong_has_its_code(
    alice: Agent, body: bytes, expected: tuple[int, int]
) -> None:
    assert error_of(await post(alice, body)) == expected


@pytest.fixture(scope="session")
async def crowd(wire: Wire, server: RunningServer) -> list[Agent]:
    """Agents enough to send more in a minute than one may."""
    org = await found(wire, wire.party(server.admin_token))
    return [await org.hire() for _ in range(10)]


TOOL_NAMES = st.sampled_from([
    "list_peers", "delegate_task_async", "check_task_status", "update_task_status", "inbox_peek",
    "wait_for_message", "inbox_pop", "chat_history",
])  # fmt: skip
ARGUMENTS = st.dictionaries(
    st.sampled_from([
        "q", "limit", "workspace_id", "task", "idempotency_key", "task_id", "status", "text",
        "activity_id", "peer_id", "before_ts",
    ]),
    garbage.JSON,
    max_size=4,
)  # fmt: skip
CALLS = st.builds(
    lambda tool, arguments: json.dumps(
        tool_call(
            tool, {"timeout_secs": 0, **arguments} if tool == "wait_for_message" else arguments
        )
    ).encode(),
    TOOL_NAMES,
    ARGUMENTS,
)
BODIES = garbage.ODD_JSON | garbage.JSON.map(lambda value: json.dumps(value).encode()) | CALLS


@settings(
    max_examples=400 if LONG else 100,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(body=BODIES)
async def test_no_body_is_our_fault(crowd: list[Agent], body: bytes) -> None:
    """Anything is answered, and never with a fault of the server."""
    answer = await post(crowd[0], body)
    while answer.status_code == 429:
        crowd.pop(0)
        answer = await post(crowd[0], body)
    assert answer.status_code in (200, 202, 400), (body, answer.text)
    if answer.content:
        assert b'"jsonrpc":"2.0"' in answer.content
    assert b"-32603" not in answer.content


async def _over_grpc(agent: Agent, data: bytes) -> httpbody_pb2.HttpBody:
    call = agent.wire.channel.unary_unary(
        "/moleculeai.delegation.v1.DelegationService/CallMcp",
        request_serializer=delegation.CallMcpRequest.SerializeToString,
        response_deserializer=httpbody_pb2.HttpBody.FromString,
    )
    body = httpbody_pb2.HttpBody(content_type="application/json", data=data)
    answer: httpbody_pb2.HttpBody = await call(
        delegation.CallMcpRequest(workspace_id=agent.id, body=body),
        metadata=tuple(agent.headers.items()),
        timeout=PATIENCE,
    )
    return answer
