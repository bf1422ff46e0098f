"""Commands around other stores: their exit codes, and what a script reads."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from molecule_grpc.db.embedded.server import EmbeddedPostgres
from molecule_grpc.db.migrate import migrate
from molecule_grpc.directory import DEFAULT_ORGANIZATION
from tests.conftest import MIGRATIONS, execute
from tests.e2e.parties import found, wire_to
from tests.e2e.test_memory_scoped import recall
from tests.forked import run_command
from tests.legacy_memories import TABLE
from tests.plugin_servers import PluginProcess
from tests.running import RunningServer
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NOBODY = "http://127.0.0.1:9"


def molecule(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of `molecule-grpc memory`."""
    return run_command(["memory", *words], {**os.environ, **environment}, PATIENCE)


@pytest.mark.parametrize(
    "flags",
    [[], ["--dry-run", "--apply"], ["--apply", "--workspace", "x"], ["--apply", "--after", "x"]],
)
def test_wrong_arguments_are_2(flags: list[str]) -> None:
    done = molecule("backfill", *flags, DATABASE_URL="postgres://nobody@127.0.0.1:9/x")
    assert done.returncode == 2, done.stderr


async def test_what_cannot_be_reached_is_3(database_url: str) -> None:
    for environment in (
        {"DATABASE_URL": "", "MOLECULE_DATA_DIR": "/nonexistent"},
        {"DATABASE_URL": "postgres://nobody@127.0.0.1:9/x"},
        {"DATABASE_URL": database_url},  # has no table agent_memories
    ):
        done = molecule("backfill", "--dry-run", **environment)
        assert done.returncode == 3, done.stderr
    await execute(database_url, TABLE)
    plugin = {"DATABASE_URL": database_url, "MEMORY_PLUGIN_URL": NOBODY}
    assert molecule("backfill", "--dry-run", **plugin).returncode == 0
    done = molecule("backfill", "--apply", **plugin)
    assert done.returncode == 3
    assert "plugin does not answer" in done.stderr


async def test_what_is_missing_is_1_and_json_is_json(database_url: str) -> None:
    await execute(database_url, TABLE)
    await execute(
        database_url,
        "WITH w AS (INSERT INTO workspaces (id, name, organization_id, tier) VALUES"
        f" (gen_random_uuid(), 'w', '{DEFAULT_ORGANIZATION}', 3) RETURNING id)"
        " INSERT INTO agent_memories (workspace_id, content, scope)"
        " SELECT id, 'the one that is missing', 'LOCAL' FROM w",
    )
    done = molecule("backfill", "--verify", DATABASE_URL=database_url)
    assert done.returncode == 1
    assert "the one that is missing" in done.stderr
    done = molecule("--json", "backfill", "--apply", DATABASE_URL=database_url)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["scanned"], facts["copied"], facts["errors"]) == (1, 1, 0)
    assert "," in facts["cursor"]
    assert molecule("backfill", "--verify", DATABASE_URL=database_url).returncode == 0


def test_doctor_asks_the_plugin(tmp_path: Path) -> None:
    plugin = PluginProcess("-m", "tests.flat_plugin", "{port}")
    plugin.start()
    found = {}
    for url in (plugin.url, NOBODY):
        done = subprocess.run(
            [sys.executable, "-m", "molecule_grpc.cli.main", "--json", "doctor"],
            env={**os.environ, "MEMORY_PLUGIN_URL": url, "MOLECULE_DATA_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        [found[url]] = [
            each for each in json.loads(done.stdout)["findings"] if each["name"] == "memory plugin"
        ]
    plugin.kill()
    assert found[plugin.url]["well"] is True
    assert found[NOBODY]["well"] is False
    assert NOBODY in found[NOBODY]["detail"]


async def test_an_embedded_database_is_found(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path) as server:
        await migrate(server.dsn, MIGRATIONS)
        await execute(server.dsn, TABLE)
        place = {"DATABASE_URL": "", "MOLECULE_DATA_DIR": str(tmp_path)}
        running = await asyncio.to_thread(molecule, "backfill", "--dry-run", **place)
    stopped = await asyncio.to_thread(molecule, "backfill", "--apply", **place)
    assert (running.returncode, stopped.returncode) == (0, 0), running.stderr + stopped.stderr


def test_a_server_that_fails_the_pack_is_1() -> None:
    done = molecule("conformance", NOBODY)
    assert done.returncode == 1
    assert done.stdout.startswith("failed\tanswers the five basic requests")
    assert molecule("serve-plugin").returncode == 1
    for url in ("127.0.0.1:9", "ftp://127.0.0.1", "http://"):
        assert molecule("conformance", url).returncode == 2


async def test_memories_of_other_libraries_come_in_once(
    own_server: Callable[..., RunningServer], tmp_path: Path
) -> None:
    server = own_server()
    async with wire_to(server) as wire:
        org = await found(wire, wire.party(server.admin_token))
        agent = await org.hire("lead")
        files = {
            "mem0": {"results": [{"id": "m", "memory": "likes tea", "user_id": "alice"}]},
            "langgraph": [{"namespace": ["a"], "key": "k", "value": {"text": "likes coffee"}}],
        }
        for _ in range(2):
            for layout, content in files.items():
                given, export = tmp_path / f"{layout}.json", tmp_path / "export.json"
                given.write_text(json.dumps(content))
                done = molecule("convert", layout, str(given), "--workspace", "lead")
                assert done.returncode == 0, done.stderr
                export.write_text(done.stdout)
                done = molecule(
                    *("import", str(export), "--organization", org.id),
                    *("--url", server.url, "--token", server.admin_token),
                )
                assert done.returncode == 0, done.stderr
        rows = await recall(agent, scope="LOCAL")
        assert sorted(row["content"] for row in rows) == ["likes coffee", "likes tea"]
