"""The pages about other stores, as they stand: the plugin in 50 lines, and the six steps."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from molecule_grpc.memory.contract.conformance import Outcome, conformance
from tests.conftest import execute, with_database
from tests.e2e.parties import Agent, found, wire_to
from tests.e2e.test_docs import shell_blocks
from tests.e2e.test_memory_mcp import text_of
from tests.e2e.test_memory_scoped import recall, remember
from tests.legacy_memories import TABLE, add_row
from tests.plugin_servers import PluginProcess
from tests.running import RunningServer

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
_STEPS = ("1. Check the plugin", "2. Count", "3. Move", "4. Compare", "5. Switch")


async def test_the_plugin_of_the_page_has_50_lines_and_passes(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "memory-plugins.md").read_text()
    [program] = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    lines = [line for line in program.splitlines() if line.strip()]
    assert len(lines) <= 50
    path = tmp_path / "plugin.py"
    path.write_text(program)
    plugin = PluginProcess(str(path), "{port}")
    plugin.start()
    try:
        results = [result async for result in conformance(plugin.url)]
    finally:
        plugin.kill()
    assert [result for result in results if result.outcome is Outcome.FAILED] == []
    passed = {result.name for result in results if result.outcome is Outcome.PASSED}
    assert "upserts by id" in passed


def steps_of_the_page(server: RunningServer, plugin: PluginProcess) -> str:
    """Run the shell blocks of the steps, in order, and give what they printed."""
    blocks = [block for step in _STEPS for block in shell_blocks("docs/memory-cutover.md", step)]
    assert len(blocks) == 5
    done = subprocess.run(
        ["bash", "-c", "set -ex\n" + "\n".join(blocks)],
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DATABASE_URL": server.environment["DATABASE_URL"],
            "MEMORY_PLUGIN_URL": plugin.url,
        },
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


async def test_the_six_steps_move_an_installation(
    postgres: str, database_url: str, own_server: Callable[..., RunningServer]
) -> None:
    """Clients see the same memories before and after, from the table and then from the plugin."""
    name = f"plugin_{uuid.uuid4().hex[:12]}"
    await execute(postgres, f"CREATE DATABASE {name}")
    plugin = PluginProcess(
        *("-m", "molecule_grpc.cli.main", "memory", "serve-plugin"),
        *("--listen", "127.0.0.1:{port}"),
        MEMORY_PLUGIN_DATABASE_URL=with_database(postgres, name),
    )
    await execute(database_url, TABLE)
    await execute(database_url, "GRANT ALL ON agent_memories TO PUBLIC")
    try:
        plugin.start()
        server = own_server(MEMORY_PLUGIN_URL=plugin.url)
        assert "until MEMORY_V2_CUTOVER=true" in server.log.read_text()
        async with wire_to(server) as wire:
            org = await found(wire, wire.party(server.admin_token))
            root = await org.hire("lead")
            child = await org.hire("child", parent_id=root.id)
            await fill(database_url, root, child)
            before = await seen(root, child)
            assert all(before)
            printed = steps_of_the_page(server, plugin)
            assert "dry run: scanned=123 would_copy=123" in printed
            assert "mismatches=0 errors=0" in printed
            server.kill()
            server.environment["MEMORY_V2_CUTOVER"] = "true"
            server.start()
            assert await seen(root, child) == before
            assert await remember(child, "written after the switch")
        rows = await asyncpg.connect(database_url)
        try:
            assert await rows.fetchval("SELECT count(*) FROM agent_memories") == 123
            await rows.execute(last_step())
        finally:
            await rows.close()
        server.restart()
        async with wire_to(server) as wire:
            again = Agent(wire, child.headers, child.id, child.token)
            assert "written after the switch" in [row["content"] for row in await recall(again)]
    finally:
        plugin.kill()
        await execute(postgres, f"DROP DATABASE {name} WITH (FORCE)")


async def fill(database_url: str, root: Agent, child: Agent) -> None:
    """Rows of an old installation, and some that clients write before the switch."""
    connection = await asyncpg.connect(database_url)
    for n in range(118):
        await add_row(connection, uuid.UUID(root.id), f"old row {n}")
    await add_row(connection, uuid.UUID(child.id), "an old private row", label="facts")
    await add_row(connection, uuid.UUID(child.id), "an old shared row", "TEAM")
    await connection.close()
    await remember(root, "for all", "GLOBAL")
    await remember(child, "a new private row")
    await remember(child, "a new shared row", "TEAM")


async def seen(root: Agent, child: Agent) -> list[object]:
    """The answers to clients that know scopes, sorted: rows of equal time have no order."""
    views: list[object] = []
    for agent, scope in ((child, "LOCAL"), (child, "TEAM"), (child, "GLOBAL"), (root, "TEAM")):
        rows = await recall(agent, scope=scope)
        views.append(sorted((row["id"], row["content"], row["namespace"]) for row in rows))
    views.append(len(await recall(root, scope="LOCAL")))
    views.append("an old private row" in await text_of(child, "recall_memory", scope="LOCAL"))
    return views


def last_step() -> str:
    """The statement of the last step."""
    page = (ROOT / "docs" / "memory-cutover.md").read_text()
    [statement] = re.findall(r"^```sql\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return str(statement)
