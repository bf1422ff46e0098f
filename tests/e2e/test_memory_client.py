"""Memories through the SDK and the command line, against the real server."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from moleculeai.memory.v1 import memory_pb2

from molecule_grpc.client import Agent, Platform
from molecule_grpc.client.errors import Aborted, InvalidArgument, NotFound
from tests.e2e.parties import Agent as Hired
from tests.e2e.parties import Organization
from tests.running import RunningServer
from tests.waiting import PATIENCE

pytestmark = pytest.mark.e2e


@pytest.fixture
async def hired(org: Organization) -> Hired:
    return await org.hire("rememberer")


async def test_an_agent_remembers_finds_and_forgets(hired: Hired, server: RunningServer) -> None:
    async with Agent(server.url, hired.id, hired.token) as agent:
        memory = agent.memory
        soon = datetime.now(UTC) + timedelta(days=1)
        made = await memory.commit("the kiln fires at dawn", tags=["kiln"], expires_at=soon)
        found = await memory.search("when does the kiln fire")
        assert [each.content for each in found.memories] == ["the kiln fires at dawn"]
        assert found.memories[0].expires_at.ToDatetime(tzinfo=UTC) == soon
        before = datetime.now(UTC)
        new = await memory.supersede(made.id, "the kiln fires at noon")
        assert [each.content for each in (await memory.search("kiln")).memories] == [
            "the kiln fires at noon"
        ]
        then = await memory.search("kiln", as_of=before)
        assert [each.content for each in then.memories] == ["the kiln fires at dawn"]
        changed = await memory.update(new.id, tags=["kiln", "noon"], pinned=True)
        assert changed.changed
        assert list((await memory.get(new.id)).tags) == ["kiln", "noon"]
        assert len(await memory.history(new.id)) == 2
        assert (await memory.explain(new.id, "kiln")).found
        assert (await memory.hygiene()).memories >= 1
        assert [each.kind for each in (await memory.namespaces()).writable] == [
            "workspace",
            "team",
            "org",
        ]
        assert await memory.forget(new.id) >= 1
        with pytest.raises(NotFound):
            await memory.get(new.id)


async def test_insisting_on_a_duplicate_is_safe_to_try_again(
    hired: Hired, server: RunningServer
) -> None:
    async with Agent(server.url, hired.id, hired.token) as agent:
        first = await agent.memory.commit("twice")
        second = await agent.memory.commit("twice", keep_duplicate=True)
        assert (second.unchanged, second.id == first.id) == (False, False)
        merged = await agent.memory.consolidate([first.id, second.id], "once")
        assert sorted(merged.superseded) == sorted([first.id, second.id])
        restored = await agent.memory.undo_consolidation(merged.result.id)
        assert sorted(restored) == sorted([first.id, second.id])


async def test_a_batch_and_a_summary(hired: Hired, server: RunningServer) -> None:
    async with Agent(server.url, hired.id, hired.token) as agent:
        drafts = [memory_pb2.MemoryDraft(content=text) for text in ("one", "", "two")]
        outcomes = await agent.memory.commit_all(drafts)
        kinds = [each.WhichOneof("outcome") for each in outcomes]
        assert kinds == ["result", "error", "result"]
        made = await agent.memory.commit_summary("the day")
        assert (await agent.memory.get(made.id)).kind == "summary"


async def test_keys_of_an_agent(hired: Hired, server: RunningServer) -> None:
    async with Agent(server.url, hired.id, hired.token) as agent:
        memory = agent.memory
        assert await memory.set_value("plan", {"steps": [1, 2]}) == 1
        assert await memory.set_value("plan", {"steps": [3]}, if_version=1) == 2
        with pytest.raises(Aborted):
            await memory.set_value("plan", None, if_version=1)
        got = await memory.value("plan")
        assert (got.version, json_format.MessageToDict(got.value)) == (2, {"steps": [3]})
        await memory.set_value("other", [{"n": 2**53 - 1}])
        with pytest.raises(ValueError, match="rounded"):
            await memory.set_value("other", [{"n": 2**53}])
        assert [entry.key async for entry in memory.values()] == ["other", "plan"]
        await memory.delete_value("plan", if_version=2)
        with pytest.raises(NotFound):
            await memory.value("plan")


async def test_an_export_goes_into_a_file_and_back(
    hired: Hired, org: Organization, server: RunningServer, tmp_path: Path
) -> None:
    async with Agent(server.url, hired.id, hired.token) as agent:
        for n in range(30):
            await agent.memory.commit(f"row {n} é")
    token = org.headers["authorization"].removeprefix("Bearer ")
    async with Platform(server.url, token) as platform:
        data = b"".join([piece async for piece in platform.export_memories()])
        assert len(json.loads(data)) == 30
        path = tmp_path / "memories.json"
        path.write_bytes(data)
        done = await platform.import_memories(path)
        assert (done.imported, done.total, done.errors) == (30, 30, 0)
        path.write_bytes(data[:-1])
        with pytest.raises(InvalidArgument):
            await platform.import_memories(path)


def run(server: RunningServer, token: str, *words: str, stdin: str = "") -> Any:
    """What a command prints as JSON."""
    environment = {**os.environ, "MOLECULE_URL": server.url, "MOLECULE_TOKEN": token}
    done = subprocess.run(
        [sys.executable, "-m", "molecule_grpc.cli.main", "memory", *words, "--json"],
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
async def test_the_command_line(
    hired: Hired, org: Organization, server: RunningServer, tmp_path: Path
) -> None:
    token = org.headers["authorization"].removeprefix("Bearer ")

    async def memory(*words: str, stdin: str = "") -> Any:
        return await asyncio.to_thread(run, server, token, *words, stdin=stdin)

    made = await memory("add", "rememberer", "the lighthouse is green", "--tag", "coast")
    assert made["namespace"] == f"workspace:{hired.id}"
    [hit] = await memory("search", hired.id, "what colour is the lighthouse")
    assert (hit["id"], hit["content"]) == (made["id"], "the lighthouse is green")
    new = await memory(
        "add", hired.id, "-", "--supersedes", made["id"], stdin="the lighthouse is red"
    )
    why = await memory("why", hired.id, made["id"], "lighthouse")
    assert why["excluded_by"] == ["superseded"]
    history = await memory("history", hired.id, new["id"])
    assert [each["content"] for each in history] == [
        "the lighthouse is green",
        "the lighthouse is red",
    ]
    assert (await memory("hygiene", hired.id))["memories"] == 1
    assert (await memory("get", hired.id, new["id"]))["content"] == "the lighthouse is red"
    changed = await memory("update", hired.id, new["id"], "--tag", "sea", "--pin")
    assert changed["changed"] is True
    kinds = [each["kind"] for each in await memory("namespaces", hired.id)]
    assert kinds == ["workspace", "team", "org"]
    other = await memory("add", hired.id, "the sea is blue")
    merged = await memory("consolidate", hired.id, "red and blue", new["id"], other["id"])
    assert len(merged["superseded"]) == 2
    undone = await memory("undo", hired.id, merged["result"]["id"])
    assert len(undone["restored"]) == 2
    assert (await memory("forget", hired.id, other["id"]))["removed"] >= 1
    path = tmp_path / f"{uuid.uuid4().hex}.json"
    await memory("export", str(path))
    assert [row["content"] for row in json.loads(path.read_text())] == ["the lighthouse is red"]
    assert (await memory("import", str(path)))["imported"] == 1
    lost = tmp_path / "lost.json"
    with pytest.raises(AssertionError, match="token"):
        await asyncio.to_thread(run, server, "wrong", "export", str(lost))
    assert not lost.exists()
