"""Odd content sent through any face is read unchanged at every face, or all faces refuse it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from google.api import httpbody_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from tests.e2e.parties import Agent, Organization, Refused

DATA = {"kind": "data", "data": {"order": 7, "open": None, "list": []}}
FILE = {"kind": "file", "file": {"uri": "https://example.org/a.pdf", "mimeType": "application/pdf"}}
# A2A 1.0: parts without `kind`.
DATA_1_0 = {"data": {"order": 7}, "metadata": {}}
FILE_1_0 = {"url": "https://example.org/a.pdf", "filename": "a.pdf", "mediaType": "text/plain"}

CONTENTS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "0.3 text": ([{"kind": "text", "text": "hi"}], "hi"),
    "0.2 text": ([{"type": "text", "text": "hi"}], "hi"),
    "1.0 text": ([{"text": "hi"}], "hi"),
    "0.3 text, data and file": ([{"kind": "text", "text": "hi"}, DATA, FILE], "hi"),
    "1.0 text, data and file": ([{"text": "hi"}, DATA_1_0, FILE_1_0], "hi"),
    "data alone": ([DATA], ""),
    "a file alone": ([FILE_1_0], ""),
    "emoji": ([{"text": "🔑 Zoë 東京 \u202e"}], "🔑 Zoë 東京 \u202e"),
    "long integers": (
        [
            {
                "data": {
                    "ids": [2**53 + 1, -(2**63), 2**64 - 1, 10**30 + 7],
                    "n": 1e22,
                }
            }
        ],
        "",
    ),
    "digits in text": ([{"text": '{"n": 9007199254740993, "\\'}], '{"n": 9007199254740993, "\\'),
}


@pytest.fixture
async def pair(org: Organization) -> tuple[Agent, Agent]:
    return await org.hire(), await org.hire()


def message(parts: Any, **fields: Any) -> dict[str, Any]:
    """A bare A2A request."""
    return {"method": "message/send", "params": {"message": {"parts": parts, **fields}}}


async def by_rest(sender: Agent, target: Agent, body: str) -> str:
    """Send over REST; the refusal's text, or nothing."""
    answer = await sender.wire.http.post(
        f"/workspaces/{target.id}/a2a", content=body.encode(), headers=sender.headers
    )
    assert answer.status_code in (200, 400), answer.text
    return "" if answer.status_code == 200 else str(answer.json()["error"])


async def by_grpc(sender: Agent, target: Agent, body: str) -> str:
    """Send over gRPC; the refusal's text, or nothing."""
    request = pb.SendMessageRequest(
        workspace_id=target.id,
        source_id=sender.id,
        body=httpbody_pb2.HttpBody(content_type="application/json", data=body.encode()),
    )
    try:
        await sender.rpc(request)
    except Refused as refused:
        return refused.message if refused.code == "INVALID_ARGUMENT" else refused.code
    return ""


async def mcp(agent: Agent, body: str) -> Any:
    """Post to the agent's MCP endpoint; the JSON-RPC response."""
    path = f"/workspaces/{agent.id}/mcp"
    headers = {**agent.headers, "content-type": "application/json"}
    return (await agent.wire.http.post(path, content=body.encode(), headers=headers)).json()


async def tool(agent: Agent, name: str, **arguments: Any) -> Any:
    """What a tool returns."""
    params = {"name": name, "arguments": arguments}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return json.loads((await mcp(agent, json.dumps(call)))["result"]["content"][0]["text"])


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("entrance", [by_rest, by_grpc])
async def test_every_exit_has_everything_that_was_sent(
    pair: tuple[Agent, Agent],
    entrance: Callable[[Agent, Agent, str], Awaitable[str]],
    content: str,
) -> None:
    sender, reader = pair
    parts, text = CONTENTS[content]
    assert await entrance(sender, reader, json.dumps(message(parts, messageId="m 1"))) == ""
    others = [part for part in parts if not isinstance(part.get("text"), str)]

    pulled = await reader.rpc(pb.PullInboxRequest(workspace_id=reader.id))
    [item] = pulled.items
    assert (item.text, item.message_id) == (text, "m 1")
    assert json.loads(item.body)["params"]["message"]["parts"] == parts

    inbox = (await reader.rest("GET", f"/workspaces/{reader.id}/inbox")).json()
    assert (inbox["items"][0]["text"], inbox["items"][0]["body"]) == (text, item.body)

    for shown in (
        (await tool(reader, "inbox_peek"))[0],
        await tool(reader, "wait_for_message", timeout_secs=0),
        (await tool(reader, "chat_history", peer_id=sender.id))[0],
    ):
        assert not text or shown["text"] == text
        assert shown.get("parts", []) == others

    path = f"/workspaces/{reader.id}/activity"
    [row] = (await reader.rest("GET", path, type="a2a_receive")).json()
    assert row["data"]["text"] == text
    one = (await reader.rest("GET", f"{path}/{row['id']}")).json()
    [hit] = (await reader.rest("GET", f"/workspaces/{reader.id}/session-search")).json()
    for body in (row["request_body"], one["request_body"], hit["request_body"]):
        assert body["params"]["message"]["parts"] == parts


# 2**53 + 1 is the first integer that no double holds.
LONG: dict[str, Any] = {
    "ids": [2**53 + 1, -(2**53) - 1, 10**30 + 7],
    "short": [2**53 - 1, 1.5],
    "text": ["\\", '": 9007199254740993, ', "9007199254740993"],
}


async def test_a_report_keeps_the_digits_of_its_integers(pair: tuple[Agent, Agent]) -> None:
    agent, _ = pair
    path = f"/workspaces/{agent.id}/activity"
    report = {"activity_type": "agent_log", "request_body": LONG, "response_body": 2**63}
    assert (await agent.rest("POST", path, report | {"tool_trace": [LONG]})).status_code == 200
    [row] = (await agent.rest("GET", path)).json()
    assert row["request_body"] == LONG
    assert (row["response_body"], row["tool_trace"]) == (2**63, [LONG])


@pytest.mark.parametrize("size", [0, 100_000, 1_000_000])
async def test_digits_are_kept_wherever_the_edge_cuts_a_body(
    pair: tuple[Agent, Agent], size: int
) -> None:
    agent, _ = pair
    ids = [10**20 + n for n in range(size // 20)]
    body = {"ids": ids, "text": '"' * (size // 2), "share": 0.5}
    path = f"/workspaces/{agent.id}/activity"
    report = json.dumps({"activity_type": "agent_log", "request_body": body})
    # A fraction of more digits than any that is held back.
    report = report.replace("0.5", "0.5" + "0" * size)
    answer = await agent.wire.http.post(path, content=report, headers=agent.headers)
    assert answer.status_code == 200
    [row] = (await agent.rest("GET", path)).json()
    assert row["request_body"] == body


async def test_grpc_has_the_text_of_a_body_that_its_value_changes(
    pair: tuple[Agent, Agent],
) -> None:
    sender, reader = pair
    for n, part in enumerate(({"data": LONG}, {"data": {"short": 2**53 - 1}})):
        await by_rest(sender, reader, json.dumps(message([part], messageId=f"m{n}")))
    plain, long = (await reader.rpc(pb.ListActivityRequest(workspace_id=reader.id))).activities
    assert not plain.HasField("request_body_json")
    one = await reader.rpc(pb.GetActivityRequest(workspace_id=reader.id, activity_id=long.id))
    _, hit = (await reader.rpc(pb.SearchSessionRequest(workspace_id=reader.id))).hits
    for row in (long, one, hit):
        assert json.loads(row.request_body_json)["params"]["message"]["parts"] == [{"data": LONG}]
        assert not row.HasField("response_body_json")
    path = f"/workspaces/{reader.id}/activity/{long.id}"
    assert "request_body_json" not in (await reader.rest("GET", path)).json()


@pytest.mark.parametrize("entrance", [by_rest, by_grpc])
@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" + "0" * 400, "1" * 5000])
async def test_a_number_out_of_range_is_refused_with_its_field(
    pair: tuple[Agent, Agent],
    entrance: Callable[[Agent, Agent, str], Awaitable[str]],
    number: str,
) -> None:
    body = json.dumps(message([{"data": {"a": [0, "N"]}}])).replace('"N"', number)
    refusal = await entrance(*pair, body)
    assert refusal == "body.params.message.parts[0].data.a[1] is a number out of range"


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" + "0" * 400])
async def test_a_report_with_a_number_out_of_range_is_refused(
    pair: tuple[Agent, Agent], number: str
) -> None:
    agent, _ = pair
    body = f'{{"activity_type":"agent_log","request_body":{{"a":{number}}}}}'
    path = f"/workspaces/{agent.id}/activity"
    answer = await agent.wire.http.post(path, content=body, headers=agent.headers)
    assert answer.status_code == 400
    assert "range" in answer.json()["error"]
    assert (await agent.rest("GET", path)).json() == []


async def test_a_card_with_an_integer_that_no_double_holds_is_refused(
    pair: tuple[Agent, Agent],
) -> None:
    agent, _ = pair
    card = {"name": "a", "versions": [1, {"build": 2**53 + 1}]}
    for path, body in (
        ("/registry/register", {"id": agent.id, "agent_card": card}),
        ("/registry/update-card", {"workspace_id": agent.id, "agent_card": card}),
    ):
        answer = await agent.rest("POST", path, body)
        assert answer.status_code == 400
        assert answer.json()["error"].startswith("agent_card.versions[1].build ")


BROKEN = "\\ud83d"


@pytest.mark.parametrize("entrance", [by_rest, by_grpc])
@pytest.mark.parametrize(
    ("body", "field"),
    [
        (f'{{"parts":[{{"text":"cut {BROKEN}"}}]}}', "body.params.message.parts[0].text"),
        (f'{{"parts":[{{"data":{{"a":"{BROKEN}"}}}}]}}', "body.params.message.parts[0].data.a"),
        (f'{{"parts":[],"{BROKEN}":1}}', "a name in body.params.message"),
        (f'{{"parts":[],"messageId":"{BROKEN}"}}', "body.params.message.messageId"),
    ],
)
async def test_half_a_character_is_refused_with_its_field(
    pair: tuple[Agent, Agent],
    entrance: Callable[[Agent, Agent, str], Awaitable[str]],
    body: str,
    field: str,
) -> None:
    refusal = await entrance(*pair, f'{{"method":"message/send","params":{{"message":{body}}}}}')
    assert refusal.startswith((field, field.rpartition(".")[2]))


async def test_half_a_character_is_refused_by_rest_and_mcp_alike(pair: tuple[Agent, Agent]) -> None:
    sender, target = pair
    body = f'{{"target_id":"{target.id}","task":"cut {BROKEN}"}}'
    answer = await sender.wire.http.post(
        f"/workspaces/{sender.id}/delegate", content=body.encode(), headers=sender.headers
    )
    assert answer.status_code == 400
    assert "lone surrogate" in answer.json()["error"]
    arguments = f'{{"workspace_id":"{target.id}","task":"cut {BROKEN}"}}'
    params = f'{{"name":"delegate_task_async","arguments":{arguments}}}'
    said = await mcp(sender, f'{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{params}}}')
    assert said["id"] == 7
    assert said["error"]["message"].startswith("params.arguments.task holds a lone surrogate")
    assert (await target.rest("GET", f"/workspaces/{target.id}/inbox")).json()["items"] == []


@pytest.mark.parametrize("entrance", [by_rest, by_grpc])
@pytest.mark.parametrize("wrong", [7, 1.5, True, [], {}, "a\x00", "a\nb", ".", ".."])
async def test_a_message_id_is_taken_as_sent_or_refused(
    pair: tuple[Agent, Agent],
    entrance: Callable[[Agent, Agent, str], Awaitable[str]],
    wrong: Any,
) -> None:
    refusal = await entrance(*pair, json.dumps(message([{"text": "x"}], messageId=wrong)))
    assert "messageId" in refusal


@pytest.mark.parametrize("wrong", ["key\x00", "\x7f", "a\u0085b", ".", ".."])
async def test_ids_of_delegations_are_taken_as_sent_or_refused_everywhere(
    pair: tuple[Agent, Agent], wrong: str
) -> None:
    sender, target = pair
    task: dict[str, Any] = {"target_id": target.id, "task": "t"}
    path = f"/workspaces/{sender.id}"
    delegated = await sender.rest("POST", f"{path}/delegate", {**task, "idempotency_key": wrong})
    assert delegated.status_code == 400
    assert "idempotency_key" in delegated.json()["error"]
    recorded = await sender.rest(
        "POST", f"{path}/delegations/record", {**task, "delegation_id": wrong}
    )
    assert recorded.status_code == 400
    assert "delegation_id" in recorded.json()["error"]
    for request in (
        pb.DelegateRequest(workspace_id=sender.id, **task, idempotency_key=wrong),
        pb.RecordDelegationRequest(workspace_id=sender.id, **task, delegation_id=wrong),
        pb.GetDelegationRequest(workspace_id=sender.id, delegation_id=wrong),
    ):
        with pytest.raises(Refused) as refused:
            await sender.rpc(request)
        assert refused.value.code == "INVALID_ARGUMENT"
    arguments = {"workspace_id": target.id, "task": "t", "idempotency_key": wrong}
    params = {"name": "delegate_task_async", "arguments": arguments}
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    assert "idempotency_key" in (await mcp(sender, json.dumps(call)))["error"]["message"]


async def test_ids_that_differ_are_not_made_one(pair: tuple[Agent, Agent]) -> None:
    sender, target = pair
    ids = ["Key", "key", "key ", "kéy", str(uuid.uuid4())]
    for name in ids:
        assert (
            await by_rest(sender, target, json.dumps(message([{"text": "x"}], messageId=name)))
            == ""
        )
    inbox = (await target.rest("GET", f"/workspaces/{target.id}/inbox")).json()
    assert [item["message_id"] for item in inbox["items"]] == ids
