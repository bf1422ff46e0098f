"""The audit of dependencies: it asks about every pin, and never calls silence an all-clear."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from tests.contract.conftest import ROOT
from tests.ports import free_port
from tools.audit import CLEAN, NOT_DONE, VULNERABLE, pins

ADVISORY = {
    "id": "GHSA-test-test-test",
    "modified": "2026-01-01T00:00:00Z",
    "published": "2026-01-01T00:00:00Z",
    "summary": "a hole",
    "affected": [],
}


class Database(HTTPServer):
    """An OSV server with one vulnerable package, which keeps the questions."""

    def __init__(self, vulnerable: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.vulnerable = vulnerable
        self.asked: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    server: Database

    def do_POST(self) -> None:
        queries = json.loads(self.rfile.read(int(self.headers["content-length"])))["queries"]
        self.server.asked += [(each["package"]["name"], each["version"]) for each in queries]
        found = {"vulns": [{key: ADVISORY[key] for key in ("id", "modified")}]}
        names = [each["package"]["name"] for each in queries]
        self._answer(
            {"results": [found if name == self.server.vulnerable else {} for name in names]}
        )

    def do_GET(self) -> None:
        self._answer(ADVISORY)

    def _answer(self, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def database() -> Iterator[Database]:
    with Database() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def audit(url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.audit", "--service-url", url],
        cwd=ROOT,
        env={**os.environ, "UV_HTTP_RETRIES": "0"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_pin_of_every_lock_is_asked_about(database: Database) -> None:
    done = audit(database.url)
    assert done.returncode == CLEAN, done.stderr
    assert sorted(database.asked) == pins()
    hashed = [
        line.split("==")[0]
        for lock in (ROOT / "requirements").glob("*.lock")
        for line in lock.read_text().splitlines()
        if line and line[0] not in "# "
    ]
    assert {name for name, _ in pins()} == set(hashed)


def test_a_vulnerable_version_is_named(database: Database) -> None:
    database.vulnerable = "grpcio"
    done = audit(database.url)
    assert done.returncode == VULNERABLE
    for word in ("grpcio", ADVISORY["id"], ADVISORY["summary"]):
        assert str(word) in done.stdout + done.stderr


def test_a_database_that_does_not_answer_is_no_all_clear() -> None:
    done = audit(f"http://127.0.0.1:{free_port()}/")
    assert done.returncode == NOT_DONE
    assert "audit: NOT DONE" in done.stderr
