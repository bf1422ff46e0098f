"""Messages of the Model Context Protocol and what they are answered with."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import asyncpg
import mcp_types as mcp
import pytest
from mcp_types import methods
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS, LATEST_MODERN_VERSION

from molecule_grpc.db.disk import DiskSpace
from molecule_grpc.faces.mcp.arguments import Arguments, Wait
from molecule_grpc.faces.mcp.protocol import Answer, Protocol, postponed
from molecule_grpc.faces.mcp.tools import Caller, Tool
from molecule_grpc.kernel.errors import Denied, Exhausted, Invalid
from molecule_grpc.server.call import Call

META = {
    mcp.PROTOCOL_VERSION_META_KEY: LATEST_MODERN_VERSION,
    mcp.CLIENT_CAPABILITIES_META_KEY: {},
}


def a_caller() -> Caller:
    return Caller(UUID(int=1), Call(metadata={}))


def protocol_of(outcome: object) -> Protocol:
    """A protocol with one tool, which returns this or raises it."""

    async def run(given: Arguments, caller: Caller) -> object:
        caller.call.set_http_status(299)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return Protocol([Tool("act", "Act.", Wait, run)], DiskSpace(None, 0))


async def answer_to(
    message: object, headers: dict[str, str] | None = None, outcome: object = None
) -> Answer:
    return await protocol_of(outcome).answer(message, headers or {}, a_caller())


def request(method: str, params: Any = None) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": "q", "method": method, "params": params or {}}


ACT = request("tools/call", {"name": "act", "arguments": {}})


async def called(outcome: object) -> tuple[bool, Any]:
    """Whether the tool is said to have failed, and what it says."""
    body = (await answer_to(ACT, outcome=outcome)).body
    assert body is not None
    result = body["result"]
    return result["isError"], json.loads(result["content"][0]["text"])


@pytest.mark.parametrize("version", HANDSHAKE_PROTOCOL_VERSIONS)
@pytest.mark.parametrize("message", [request("tools/list"), ACT, request("ping")])
async def test_results_are_what_the_revision_says(version: str, message: dict[str, Any]) -> None:
    body = (await answer_to(message, {"mcp-protocol-version": version}, {"a": 1})).body
    assert body is not None
    methods.parse_server_result(message["method"], version, body["result"])
    assert not {"resultType", "ttlMs", "_meta"} & set(body["result"])


@pytest.mark.parametrize("message", [request("tools/list"), ACT, request("server/discover")])
async def test_results_without_a_handshake_say_who_answers(message: dict[str, Any]) -> None:
    message = {**message, "params": {**message["params"], "_meta": META}}
    headers = {"mcp-protocol-version": LATEST_MODERN_VERSION, "mcp-method": message["method"]}
    if message["method"] == "tools/call":
        headers["mcp-name"] = "act"
    body = (await answer_to(message, headers, {"a": 1})).body
    assert body is not None
    methods.parse_server_result(message["method"], LATEST_MODERN_VERSION, body["result"])
    assert body["result"]["resultType"] == "complete"
    assert body["result"]["_meta"][mcp.SERVER_INFO_META_KEY]["name"] == "molecule-a2a"


async def test_a_tool_returns_json_as_text() -> None:
    assert await called({"text": "é", "n": 1}) == (False, {"text": "é", "n": 1})


async def test_a_tool_that_cannot_do_it_says_why() -> None:
    assert await called(Denied("not related", reason="NOT_RELATED")) == (
        True,
        {"error": "not related", "reason": "NOT_RELATED"},
    )
    assert await called(Exhausted("full", reason="INBOX_FULL", retry_after=30)) == (
        True,
        {"error": "full", "reason": "INBOX_FULL", "retry_after": 30},
    )


async def test_a_database_that_is_away_is_no_secret_and_no_detail() -> None:
    failed, error = await called(asyncpg.ConnectionDoesNotExistError("10.0.0.1 said no"))
    assert (failed, error["reason"]) == (True, "DATABASE_UNAVAILABLE")
    assert "10.0.0.1" not in json.dumps(error)


async def test_a_bug_is_left_to_the_pipeline() -> None:
    """Which logs it and names an incident."""
    with pytest.raises(ZeroDivisionError):
        await answer_to(ACT, outcome=ZeroDivisionError("secret"))


async def test_a_fault_that_the_platform_finds_in_an_argument_is_one_of_parameters() -> None:
    wrong = Invalid("before_ts is no time", field="before_ts")
    body = (await answer_to(ACT, outcome=wrong)).body
    assert body is not None
    assert body["error"] == {
        "code": mcp.INVALID_PARAMS,
        "message": "before_ts is no time",
        "data": {"field": "before_ts"},
    }
    refused = Invalid("self-delegation", field="target_id", reason="SELF_DELEGATION")
    assert (await called(refused))[0]


async def test_a_tool_does_not_decide_the_status_of_the_endpoint() -> None:
    caller = a_caller()
    await protocol_of(1).answer(ACT, {}, caller)
    assert caller.call.headers == {}


async def test_an_id_comes_back_as_it_was() -> None:
    for request_id in (0, -1, "", "é", 2**70):
        body = (await answer_to({**request("ping"), "id": request_id})).body
        assert body is not None
        assert body["id"] == request_id


@pytest.mark.parametrize("request_id", [None, True, 1.5, [], {}])
async def test_what_is_no_id_is_answered_without_one(request_id: object) -> None:
    answer = await answer_to({**request("ping"), "id": request_id})
    assert answer.body is not None
    assert (answer.status, answer.body["id"]) == (400, None)
    assert answer.body["error"]["code"] == mcp.INVALID_REQUEST


async def test_what_is_said_of_a_fault_is_short() -> None:
    """A caller's own words do not come back by the megabyte."""
    for message in (
        request("x" * 10_000),
        request("tools/call", {"name": "y" * 10_000}),
        request("tools/call", {"name": "act", "arguments": {"z" * 10_000: 1}}),
    ):
        body = (await answer_to(message)).body
        assert len(json.dumps(body)) < 1000


def test_what_is_postponed_is_answered_when_it_asked() -> None:
    assert postponed({"jsonrpc": "2.0", "method": "notifications/initialized"}).body is None
    body = postponed(request("ping")).body
    assert body is not None
    assert (body["id"], body["error"]["code"]) == ("q", -32000)
