"""The main job on real input: two agents of the example, in three ways, one of them rough."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import asyncpg
import httpx
import pytest

from tests.running import RunningServer
from tests.waiting import PATIENCE

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

EXAMPLE = Path(__file__).parents[2] / "examples" / "two_agents"


def python_files(package: str) -> list[str]:
    """The files of a package: the example makes one task of each."""
    spec = importlib.util.find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return sorted(map(str, Path(spec.origin).parent.rglob("*.py")))


@dataclass(slots=True)
class Run:
    """The example while it runs. `said` is the coordinator's output."""

    process: subprocess.Popen[str]
    said: IO[str]

    def results(self) -> Iterator[dict[str, Any]]:
        """Results as they arrive, until the coordinator has them all."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield json.loads(line)

    def worker_did(self) -> Counter[str]:
        """Files that the worker says it read, and how often."""
        self.said.seek(0)
        return Counter(
            line.split("did ", 1)[1].strip() for line in self.said if line.startswith("worker: did")
        )


@pytest.fixture
def start() -> Iterator[Callable[..., Run]]:
    """Starts the example against a server."""
    runs: list[Run] = []

    def run(server: RunningServer, *options: str) -> Run:
        said = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed with the run)
        process = subprocess.Popen(
            [sys.executable, str(EXAMPLE / "run.py"), "--json", *options],
            env=os.environ | {"MOLECULE_URL": server.url, "MOLECULE_TOKEN": server.admin_token},
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        )
        runs.append(Run(process, said))
        return runs[-1]

    yield run
    for started in runs:
        started.process.send_signal(signal.SIGTERM)
        started.process.communicate(timeout=PATIENCE)
        started.said.close()


@pytest.mark.parametrize("worker", [(), ("--shell",)], ids=["grpc", "curl"])
def test_every_file_is_reported_once(
    own_server: Callable[..., RunningServer], start: Callable[..., Run], worker: tuple[str, ...]
) -> None:
    files = python_files("json")
    run = start(own_server(), "--tree", "json", *worker)
    reports = {each["file"]: each["report"] for each in run.results()}
    assert (sorted(reports), run.process.wait()) == (files, 0)
    decoder = next(path for path in files if path.endswith("decoder.py"))
    assert reports[decoder]["functions"] == 9
    assert reports[decoder]["longest"] == "JSONObject"
    assert run.worker_did() == Counter(files)


@pytest.mark.parametrize(
    ("worker", "tree"), [((), "asyncio"), (("--shell",), "json")], ids=["grpc", "curl"]
)
async def test_a_killed_server_loses_nothing_and_repeats_nothing(
    own_server: Callable[..., RunningServer],
    start: Callable[..., Run],
    database_url: str,
    worker: tuple[str, ...],
    tree: str,
) -> None:
    files = python_files(tree)
    server = own_server()
    run = start(server, "--tree", tree, "--think", "0.3", *worker)
    results = run.results()
    seen = [next(results), next(results)]
    server.restart()
    seen += results
    assert run.process.wait() == 0
    assert [each["status"] for each in seen] == ["completed"] * len(files)
    assert sorted(each["file"] for each in seen) == files
    await _assert_ledger_is_whole(database_url, len(files))
    assert run.worker_did() == Counter(files)


async def _assert_ledger_is_whole(database_url: str, tasks: int) -> None:
    """Every task is completed, with one result for its source, and nothing is left undone."""
    connection = await asyncpg.connect(database_url)
    try:
        ledger = await connection.fetch("SELECT delegation_id, status FROM delegations")
        results = await connection.fetch(
            "SELECT response_body->>'delegation_id' AS id FROM activity_logs"
            " WHERE method = 'delegate_result' AND activity_type = 'a2a_receive'"
        )
        undone = await connection.fetchval("SELECT count(*) FROM inbox_items WHERE done_at IS NULL")
    finally:
        await connection.close()
    assert [row["status"] for row in ledger] == ["completed"] * tasks
    assert sorted(row["id"] for row in results) == sorted(row["delegation_id"] for row in ledger)
    assert undone == 0


def test_a_coordinator_that_starts_again_finds_its_own_tasks(
    own_server: Callable[..., RunningServer], start: Callable[..., Run]
) -> None:
    server = own_server()
    first = start(server, "--tree", "json", "--think", "0.5")
    early = next(first.results())
    first.process.send_signal(signal.SIGTERM)
    first.process.wait(timeout=PATIENCE)
    second = start(server, "--tree", "json")
    reports = {each["file"] for each in second.results()}
    assert early["file"] in reports
    assert sorted(reports) == python_files("json")
    ledger = httpx.get(
        f"{server.url}/admin/delegations?status=completed",
        headers={"Authorization": f"Bearer {server.admin_token}"},
        timeout=PATIENCE,
    ).json()
    assert ledger["count"] == len(reports)
