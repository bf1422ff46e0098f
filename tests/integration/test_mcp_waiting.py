"""How long a wait for a message lasts, in the whole application without its edge."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from google.api import httpbody_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from molecule_grpc.app import App, application
from molecule_grpc.db.pool import Pool
from molecule_grpc.faces.mcp import messages
from molecule_grpc.server.call import Call
from tests.integration.agents import hire, message
from tests.settings import settings_of

TOKEN = "the-operator-0123456789abcdefghijklmnopqrst"


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[App]:
    async with application(settings_of(auth_admin_token=TOKEN), database_url, "test-mcp") as opened:
        yield opened


@pytest.fixture
async def waiter(pool: Pool) -> UUID:
    [workspace_id] = await hire(pool, 1)
    return workspace_id


async def wait_for_message(app: App, workspace_id: UUID, timeout_secs: int) -> Any:
    params = {"name": "wait_for_message", "arguments": {"timeout_secs": timeout_secs}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    request = pb.CallMcpRequest(
        workspace_id=str(workspace_id), body=httpbody_pb2.HttpBody(data=json.dumps(body).encode())
    )
    method = next(method for method in app.methods if method.name == "CallMcp")
    call = Call(metadata={"authorization": f"Bearer {TOKEN}"})
    answer = httpbody_pb2.HttpBody.FromString(await app.pipeline.unary(method, request, call))
    return json.loads(json.loads(answer.data)["result"]["content"][0]["text"])


@pytest.mark.clock
async def test_a_wait_outlasts_the_longest_pull(
    app: App, waiter: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pull may last 55 s and a wait 300 s: here 1 s and 3 s."""
    monkeypatch.setattr(messages, "_PULL_SECONDS", 1)
    started = time.monotonic()
    assert await wait_for_message(app, waiter, 3) == {}
    assert 3 <= time.monotonic() - started < 5


async def test_a_message_ends_a_wait_in_any_of_its_pulls(
    app: App, waiter: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "_PULL_SECONDS", 1)
    waiting = asyncio.create_task(wait_for_message(app, waiter, 60))
    done, _ = await asyncio.wait({waiting}, timeout=1.5)
    assert not done
    await app.delegation.floors.records.append(message(waiter, "hello"))
    assert (await waiting)["text"] == "hello"


async def test_a_server_that_stops_ends_a_wait(app: App, waiter: UUID) -> None:
    """And it does not pull in a circle until the time is up."""
    started = time.monotonic()
    waiting = asyncio.create_task(wait_for_message(app, waiter, 60))
    done, _ = await asyncio.wait({waiting}, timeout=0.5)
    assert not done
    app.streams.drain()
    assert await waiting == {}
    assert time.monotonic() - started < 20
