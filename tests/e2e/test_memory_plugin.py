"""Memories in another server: the real platform over a plugin that only keeps texts."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import httpx
import pytest

from molecule_grpc.directory import DEFAULT_ORGANIZATION
from tests.conftest import as_server, execute, with_database
from tests.e2e.parties import Agent, found, wire_to
from tests.e2e.test_memory_mcp import failure, run, text_of
from tests.e2e.test_memory_scoped import recall, remember
from tests.plugin_servers import PluginProcess
from tests.running import RunningServer
from tests.waiting import PATIENCE, until

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture
def flat() -> Iterator[PluginProcess]:
    process = PluginProcess("-m", "tests.flat_plugin", "{port}")
    process.start()
    yield process
    process.kill()


def log_lines(server: RunningServer) -> list[dict[str, Any]]:
    lines = server.log.read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


async def test_a_flat_plugin_serves_the_platform(
    flat: PluginProcess, own_server: Callable[..., RunningServer]
) -> None:
    server = own_server(MEMORY_PLUGIN_URL=flat.url + "/", MEMORY_V2_CUTOVER="true")
    [line] = [one for one in log_lines(server) if one["event"] == "the memory plugin serves"]
    assert (line["url"], line["capabilities"]) == (flat.url, [])
    async with wire_to(server) as wire:
        org = await found(wire, wire.party(server.admin_token))
        root = await org.hire("lead")
        child = await org.hire("child", parent_id=root.id)
        await tools_work(root, child)
        await old_clients_work(child)
        await the_organisation_is_recorded_and_wrapped(root, child)
        await a_purge_reaches_it(flat, org, root)
        await it_may_go_and_come_back(flat, child)


async def tools_work(root: Agent, child: Agent) -> None:
    """List, commit, find, summarise, forget, and not find again."""
    names = await run(root, "list_writable_namespaces")
    assert [each["kind"] for each in names] == ["workspace", "team", "org"]
    done = await run(child, "commit_memory_v2", content="the harbour closes at nine")
    assert done["id"].startswith("flat-")
    assert done["namespace"] == f"workspace:{child.id}"
    await run(child, "commit_summary", content="a summary")
    texts = [each["content"] for each in (await run(child, "search_memory", query="x"))["memories"]]
    assert texts == ["a summary", "the harbour closes at nine"]
    assert (await run(child, "forget_memory", memory_id=done["id"]))["forgotten"] is True
    assert "not found" in await failure(child, "forget_memory", memory_id=done["id"])
    found = await run(child, "search_memory", query="x", namespaces=[f"workspace:{root.id}"])
    assert found["memories"] == []


async def old_clients_work(child: Agent) -> None:
    """Clients that know scopes keep their shapes."""
    done = await run(child, "commit_memory", content="ours", scope="TEAM")
    assert set(done) == {"id", "scope"}
    [row] = json.loads(await text_of(child, "recall_memory", scope="TEAM", query="ours"))[:1]
    assert set(row) == {"id", "content", "scope", "created_at"}
    memory_id = await remember(child, "over REST")
    answer = await child.rest("GET", f"/workspaces/{child.id}/session-search", q="over rest")
    assert memory_id in answer.text
    assert "over REST" in [row["content"] for row in await recall(child, scope="LOCAL")]
    answer = await child.rest("DELETE", f"/workspaces/{child.id}/memories/{memory_id}")
    assert (answer.status_code, answer.json()["status"]) == (200, "deleted")
    body = {"content": "x"}
    answer = await child.rest("PATCH", f"/workspaces/{child.id}/memories/{memory_id}", body)
    assert answer.status_code == 501


async def the_organisation_is_recorded_and_wrapped(root: Agent, child: Agent) -> None:
    """A write for all has its row in the record, and its header on every read."""
    org = f"org:{root.id}"
    done = await run(root, "commit_memory_v2", content='for "all"', namespace=org)
    found = await run(child, "search_memory", query="x", namespaces=[org])
    assert [each["content"] for each in found["memories"]] == [
        f'[MEMORY id={done["id"]} scope=ORG ns={org}]: for "all"'
    ]
    rows = (await root.rest("GET", f"/workspaces/{root.id}/activity")).json()
    [row] = [each for each in rows if each["activity_type"] == "memory_write_global"]
    body = row["request_body"]
    assert (body["memory_id"], body["namespace"]) == (done["id"], org)
    assert re.fullmatch("[0-9a-f]{64}", body["content_sha256"])


async def a_purge_reaches_it(flat: PluginProcess, org: Any, root: Agent) -> None:
    """What belonged to a purged workspace goes; what its team shares stays."""
    leaver = await org.hire("leaver", parent_id=root.id)
    await run(leaver, "commit_memory_v2", content="private to the leaver")
    namespaces = [f"workspace:{leaver.id}", f"team:{root.id}"]

    async def kept() -> set[str]:
        body = {"namespaces": namespaces}
        async with httpx.AsyncClient(timeout=PATIENCE) as http:
            answer = await http.post(f"{flat.url}/v1/search", json=body)
        return {each["namespace"] for each in answer.json()["memories"]}

    assert await kept() == set(namespaces)
    answer = await org.rest("DELETE", f"/workspaces/{leaver.id}", purge="true", confirm="true")
    assert answer.status_code == 200, answer.text
    await until(kept, lambda left: left == {f"team:{root.id}"})


async def it_may_go_and_come_back(flat: PluginProcess, child: Agent) -> None:
    """While the plugin is down, errors name `MEMORY_PLUGIN_URL`, and other calls go on."""
    flat.kill()
    for _ in range(4):
        said = await failure(child, "search_memory", query="x")
        assert "memory plugin" in said
        assert "MEMORY_PLUGIN_URL" in said
    answer = await child.rest("GET", f"/workspaces/{child.id}/memories")
    assert answer.status_code == 503
    assert answer.json()["error"]
    assert (await child.rest("GET", f"/workspaces/{child.id}/activity")).status_code == 200
    flat.start()


async def test_half_a_configuration_is_said_at_start_and_strict_refuses(
    own_server: Callable[..., RunningServer],
) -> None:
    server = own_server(MEMORY_V2_CUTOVER="true")
    [line] = [one for one in log_lines(server) if "MEMORY_V2_CUTOVER=true" in one["event"]]
    assert line["level"] == "warning"
    async with wire_to(server) as wire:
        metrics = (await wire.http.get("/metrics")).text
        assert 'memory_cutover_state{state="no_plugin"} 1.0' in metrics
        agent = await (await found(wire, wire.party(server.admin_token))).hire("alone")
        await run(agent, "commit_memory_v2", content="the built-in store serves")


async def test_the_built_in_store_serves_another_platform(
    postgres: str, database_url: str, own_server: Callable[..., RunningServer]
) -> None:
    """`serve-plugin` on a database of its own, a platform beside it, and the pack over both."""
    name = f"plugin_{uuid.uuid4().hex[:12]}"
    await execute(postgres, f"CREATE DATABASE {name}")
    plugin = PluginProcess(
        *("-m", "molecule_grpc.cli.main", "memory", "serve-plugin"),
        *("--listen", "127.0.0.1:{port}"),
        MEMORY_PLUGIN_DATABASE_URL=with_database(postgres, name),
    )
    try:
        plugin.start()
        async with httpx.AsyncClient(timeout=PATIENCE) as http:
            health = (await http.get(f"{plugin.url}/v1/health")).json()
        assert {"embedding", "fts", "ttl", "pin", "propagation"} <= set(health["capabilities"])
        server = own_server(MEMORY_PLUGIN_URL=plugin.url)
        async with wire_to(server) as wire:
            agent = await (await found(wire, wire.party(server.admin_token))).hire("alone")
            done = await run(agent, "commit_memory_v2", content="the harbour closes at nine")
            hits = await run(agent, "search_memory", query="when does the harbour close")
            assert [each["id"] for each in hits["memories"]] == [done["id"]]
        plugin.kill()
        plugin.start()  # Runs the migrations again, over tables with rows.
        rows = await asyncpg.connect(with_database(postgres, name))
        assert await rows.fetchval("SELECT count(*) FROM memories") == 1
        await rows.close()
        assert plugin.stop() == 0
        own = await asyncpg.connect(database_url)
        assert await own.fetchval("SELECT count(*) FROM memories") == 0
        await own.close()
    finally:
        plugin.kill()
        await execute(postgres, f"DROP DATABASE {name} WITH (FORCE)")


def test_it_serves_no_database_of_a_platform(database_url: str) -> None:
    asyncio.run(
        execute(
            database_url,
            "INSERT INTO workspaces (id, name, organization_id, tier) VALUES"
            f" (gen_random_uuid(), 'w', '{DEFAULT_ORGANIZATION}', 3)",
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "molecule_grpc.cli.main", "memory", "serve-plugin"],
        env={
            **os.environ,
            "MEMORY_PLUGIN_DATABASE_URL": as_server(database_url),
            "MEMORY_PLUGIN_SKIP_MIGRATE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "platform's own" in done.stderr
