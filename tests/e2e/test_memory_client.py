"""Memories through the SDK and the command line, against the real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from moleculeai.memory.v1 import memory_pb2

from molecule_grpc.client import Agent, Platform
from molecule_grpc.client.errors import Aborted, InvalidArgument, NotFound
from tests.e2e.command_line import CommandLine, command_line
from tests.e2e.parties import Agent as Hired
from tests.e2e.parties import Organization
from tests.running import RunningServer

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
        await memory.update(new.id, valid_to=soon, expires_at=soon)
        assert (await memory.update(new.id, clear=["valid_to"], pinned=False)).changed
        got = await memory.get(new.id)
        assert (got.HasField("valid_to"), got.HasField("expires_at"), got.pinned) == (
            False,
            True,
            False,
        )
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


@pytest.fixture
def commands(org: Organization, server: RunningServer) -> Iterator[CommandLine]:
    token = org.headers["authorization"].removeprefix("Bearer ")
    with command_line(server.url, token) as line:
        yield line


async def test_the_command_line(hired: Hired, commands: CommandLine) -> None:
    async def memory(*words: str, stdin: str = "") -> Any:
        return await asyncio.to_thread(commands.json, "memory", *words, stdin=stdin)

    made = await memory("add", "rememberer", "the lighthouse is green", "--tag", "coast")
    assert made["namespace"] == f"workspace:{hired.id}"
    [hit] = await memory("search", hired.id, "what colour is the lighthouse")
    assert (hit["id"], hit["content"]) == (made["id"], "the lighthouse is green")
    new = await memory("supersede", hired.id, made["id"], "-", stdin="the lighthouse is red")
    again = await memory("add", hired.id, "the lighthouse is red", "--supersedes", made["id"])
    assert (again["id"], again["unchanged"]) == (new["id"], True)
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
    until = ("--valid-to", "2099-01-01T00:00:00Z")
    assert (await memory("update", hired.id, new["id"], *until))["changed"] is True
    await memory("update", hired.id, new["id"], "--clear", "valid_to")
    assert (await memory("get", hired.id, new["id"])).get("valid_to") is None
    assert (await memory("language", hired.id, "simple"))["reindexed"] == 2
    assert await memory("search", hired.id, "lighthouse", "--delegation", "none") == []
    other = await memory("add", hired.id, "the sea is blue")
    merged = await memory("consolidate", hired.id, "red and blue", new["id"], other["id"])
    assert len(merged["superseded"]) == 2
    undone = await memory("undo", hired.id, merged["result"]["id"])
    assert len(undone["restored"]) == 2
    assert (await memory("forget", hired.id, other["id"]))["removed"] >= 1


async def test_the_command_line_takes_many_at_once(hired: Hired, commands: CommandLine) -> None:
    async def batch(stdin: str) -> tuple[int, str, str]:
        words = ("memory", "batch", hired.id, "-", "--json")
        return await asyncio.to_thread(commands.run, *words, stdin=stdin)

    lines = [json.dumps({"content": f"step {n}", "tags": ["steps"]}) for n in range(120)]
    code, out, error = await batch("\n".join(lines))
    assert (code, error) == (0, "")
    assert [row["line"] for row in json.loads(out)] == list(range(1, 121))
    code, out, _ = await batch('{"content": "step 1"}\n\n{"content": ""}')
    first, second = json.loads(out)
    assert (code, first["unchanged"], second["line"]) == (1, True, 3)
    assert "content" in second["error"]
    code, _, error = await batch('{"text": "no such field"}')
    assert (code, "line 1" in error) == (2, True)
    done = await asyncio.to_thread(commands.json, "memory", "summary", hired.id, "120 steps")
    assert done["namespace"] == f"workspace:{hired.id}"


async def test_the_command_line_keeps_keys(hired: Hired, commands: CommandLine) -> None:
    async def key(*words: str, stdin: str = "") -> tuple[int, str, str]:
        return await asyncio.to_thread(commands.run, "memory", "key", *words, stdin=stdin)

    assert (await key("set", hired.id, "plan", "-", stdin='{"steps": [1, 2.5]}'))[0] == 0
    assert (await key("get", hired.id, "plan"))[1] == '{"steps": [1, 2.5]}\n'
    assert (await key("set", hired.id, "owner", "ann", "--text", "--ttl", "60"))[0] == 0
    assert (await key("get", hired.id, "owner"))[1] == '"ann"\n'
    code, _, error = await key("set", hired.id, "owner", "ann")
    assert (code, "--text" in error) == (2, True)
    code, _, error = await key("set", hired.id, "plan", "1", "--if-version", "7")
    assert (code, "VERSION_MISMATCH" in error) == (1, True)
    rows = json.loads((await key("ls", hired.id, "--json"))[1])
    assert [(row["key"], row["version"]) for row in rows] == [("owner", 1), ("plan", 1)]
    assert (await key("rm", hired.id, "plan", "--if-version", "1"))[0] == 0
    assert (await key("get", hired.id, "plan"))[0] == 3


async def test_the_command_line_administers(
    hired: Hired, org: Organization, commands: CommandLine, tmp_path: Path
) -> None:
    async def memory(*words: str) -> Any:
        return await asyncio.to_thread(commands.json, "memory", *words)

    other = await org.hire("reader")
    given = await memory("grant", "set", hired.id, "custom:notes", "--write")
    assert (given["namespace"], given["can_write"]) == ("custom:notes", True)
    await memory("grant", "set", other.id, "custom:log")
    made = await memory("add", hired.id, "the mast is oak", "--namespace", "custom:notes")
    path = tmp_path / "memories.json"
    await memory("export", str(path))
    assert [row["content"] for row in json.loads(path.read_text())] == ["the mast is oak"]
    assert (await memory("import", str(path)))["total"] == 1
    assert (await memory("namespace", "move", "custom:notes", "custom:log"))["moved"] == 1
    assert (await memory("get", other.id, made["id"]))["namespace"] == "custom:log"
    hidden = await memory("quarantine", "set", hired.id, "--reason", "wrote nonsense")
    assert hidden["reason"] == "wrote nonsense"
    assert await memory("search", other.id, "mast") == []
    [row] = await memory("quarantine", "ls")
    assert row["workspace_id"] == hired.id
    await memory("quarantine", "rm", hired.id)
    assert [hit["id"] for hit in await memory("search", other.id, "mast")] == [made["id"]]
    assert (await memory("stats"))["memories"] == 1
    assert (await memory("namespace", "rm", "custom:log"))["removed"] == 1
    await memory("grant", "rm", other.id, "custom:log")
    rows = await memory("grant", "ls", "--workspace", other.id)
    assert rows == []


async def test_an_export_that_fails_leaves_no_file(server: RunningServer, tmp_path: Path) -> None:
    lost = tmp_path / "lost.json"
    with command_line(server.url, "wrong") as line:
        code, _, error = await asyncio.to_thread(line.run, "memory", "export", str(lost))
    assert (code, "token" in error) == (4, True)
    assert not lost.exists()
