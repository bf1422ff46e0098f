"""Development mode: calls without a token pass for programs of this machine, not for web pages."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.conftest import execute, with_database
from tests.e2e.parties import Agent, Wire, wire_to
from tests.running import RunningServer

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def development(
    postgres: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """A server in development mode, without ADMIN_TOKEN."""
    name = f"development_{uuid.uuid4().hex[:12]}"
    asyncio.run(execute(postgres, f"CREATE DATABASE {name} TEMPLATE {template}"))
    running = RunningServer(
        with_database(postgres, name),
        tmp_path_factory.mktemp("development"),
        MOLECULE_ENV="development",
        ADMIN_TOKEN="",
    )
    running.start()
    yield running
    running.kill()
    asyncio.run(execute(postgres, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
async def wire(development: RunningServer) -> AsyncIterator[Wire]:
    async with wire_to(development) as opened:
        yield opened


async def a_workspace(wire: Wire) -> Agent:
    workspace = str(uuid.uuid4())
    body = {"id": workspace, "agent_card": {"name": "x"}, "url": "http://127.0.0.1:9001"}
    answer = await wire.party().rest("POST", "/registry/register", body)
    assert (answer.status_code, answer.json()["delivery_mode"]) == (200, "push")
    token = answer.json()["auth_token"]
    return Agent(wire, wire.party(token).headers, workspace, token)


async def test_calls_without_a_token_pass(wire: Wire) -> None:
    """Scripts without a token register ids of their own; a wrong token is still refused."""
    agent = await a_workspace(wire)
    row = (await agent.rest("GET", f"/workspaces/{agent.id}")).json()
    assert (row["name"], row["url"]) == (agent.id, "http://127.0.0.1:9001")
    assert (await wire.party().rest("GET", "/workspaces")).status_code == 200
    assert (await wire.party("wrong").rest("GET", "/workspaces")).status_code == 401


async def test_the_token_of_a_workspace_passes_as_the_operator_s(
    wire: Wire, server: RunningServer
) -> None:
    """Where ADMIN_TOKEN is not set, and nowhere else."""
    agent = await a_workspace(wire)
    assert (await agent.rest("GET", "/workspaces")).status_code == 200
    async with wire_to(server) as elsewhere:
        operator = elsewhere.party(server.admin_token)
        made = await operator.rest("POST", "/workspaces", {"name": agent.id, "external": True})
        token = made.json()["connection"]["auth_token"]
        assert (await elsewhere.party(token).rest("GET", "/workspaces")).status_code == 401


def new_workspace() -> bytes:
    return json.dumps({"name": uuid.uuid4().hex, "external": True}).encode()


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example", **JSON},
        {"host": "evil.example:8080", **JSON},
        {"host": "127.0.0.1.evil.example", **JSON},
        {"origin": "http://evil.example", **JSON},
        {"origin": "http://127.0.0.1:9", **JSON},
        {"origin": "null", **JSON},
        {"host": "evil.example", "origin": "http://evil.example", **JSON},
        {"content-type": "text/plain"},
        {"content-type": "text/plain;charset=UTF-8"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"x-body-type": "application/json", "content-type": "text/plain"},
        {},
    ],
)
async def test_a_web_page_cannot_act_as_the_operator(wire: Wire, headers: dict[str, str]) -> None:
    """What a browser sends across origins without asking, and what it sends to a rebound name."""
    before = (await wire.http.get("/workspaces")).json()
    answer = await wire.http.post("/workspaces", content=new_workspace(), headers=headers)
    assert answer.status_code == 401
    assert "without a token" in answer.json()["error"]
    assert (await wire.http.get("/workspaces")).json() == before


@pytest.mark.parametrize("headers", [{"host": "evil.example"}, {"origin": "http://evil.example"}])
async def test_a_web_page_cannot_read_as_the_operator(wire: Wire, headers: dict[str, str]) -> None:
    assert (await wire.http.get("/workspaces", headers=headers)).status_code == 401


async def test_programs_and_the_canvas_still_may(wire: Wire, development: RunningServer) -> None:
    port = development.port
    for headers in (
        {"origin": "http://localhost:3000"},
        {"origin": development.url},
        {"host": f"localhost:{port}", "origin": f"http://localhost:{port}"},
        {"host": "[::1]"},
        {"content-type": "application/json; charset=utf-8"},
    ):
        named = {**JSON, **headers}
        answer = await wire.http.post("/workspaces", content=new_workspace(), headers=named)
        assert answer.status_code == 201, answer.text


async def test_a_token_that_is_shown_makes_all_that_needless(wire: Wire) -> None:
    """A page does not know it; and plain clients send forms with JSON in them."""
    agent = await a_workspace(wire)
    headers: dict[str, Any] = {
        **agent.headers,
        "host": "agents.example",
        "origin": "http://agents.example",
        "content-type": "application/x-www-form-urlencoded",
    }
    body = json.dumps({"workspace_id": agent.id}).encode()
    answer = await wire.http.post("/registry/heartbeat", content=body, headers=headers)
    assert answer.status_code == 200
