"""What is held of a cluster's answers, on an API server that answers with more than that."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from molecule_grpc.backends.kubernetes.cluster import Cluster
from molecule_grpc.backends.kubernetes.lines import pieces_of_lines
from molecule_grpc.backends.kubernetes.logs import last_output, read_logs
from molecule_grpc.backends.kubernetes.pods import Pods
from molecule_grpc.settings.kubernetes import KubernetesSettings

_LONG = 300 * 1024
_STAMPS = ("2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z", "2026-01-01T00:00:03Z")


def pod(name: str, phase: str = "Pending") -> dict[str, Any]:
    """A pod whose specification is longer than what a line of a stream may have by itself."""
    return {
        "metadata": {
            "name": name,
            "namespace": "molecule",
            "labels": {"a": "b"},
            "managedFields": ["f" * 1024],
            "resourceVersion": "1",
        },
        "spec": {"containers": [{"name": "agent", "args": ["s" * _LONG]}]},
        "status": {"phase": phase, "podIP": "10.0.0.1", "hostIPs": ["10.0.0.2"]},
    }


class ApiServer:
    """Lists two pods in two pages, tells of one change, and has a log with a long line."""

    def __init__(self) -> None:
        self.pages: list[str] = []
        self.changes: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def pods(self, request: web.Request) -> web.StreamResponse:
        if "watch" in request.query:
            return await self._watch(request)
        page = request.query.get("continue", "")
        self.pages.append(page)
        metadata = {"resourceVersion": "1", **({} if page else {"continue": "second"})}
        names = ["ws-b-0"] if page else ["ws-a-0"]
        return web.json_response({"metadata": metadata, "items": [pod(each) for each in names]})

    async def log(self, request: web.Request) -> web.StreamResponse:
        lines = [b"first", b"x" * _LONG + b"end of the long one", b"last"]
        printed = [f"{at} ".encode() + line for at, line in zip(_STAMPS, lines, strict=True)]
        return web.Response(body=b"\n".join(printed) + b"\n")

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        while True:
            event = await self.changes.get()
            await answer.write(json.dumps(event).encode() + b"\n")


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[ApiServer, Cluster]]:
    server, app = ApiServer(), web.Application()
    app.router.add_get("/api/v1/namespaces/molecule/pods", server.pods)
    app.router.add_get("/api/v1/namespaces/molecule/pods/ws-a-0/log", server.log)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    account = tmp_path / "config"
    account.write_text(_account(runner.addresses[0][1]))
    cluster = Cluster(KubernetesSettings(kubeconfig=str(account)))
    try:
        yield server, cluster
    finally:
        await cluster.close()
        await runner.cleanup()


def _account(port: int) -> str:
    named = {"name": "test", "cluster": {"server": f"http://127.0.0.1:{port}"}}
    context = {"name": "test", "context": {"cluster": "test", "user": "test"}}
    user = {"name": "test", "user": {"token": "none"}}
    kinds = {"clusters": [named], "contexts": [context], "users": [user]}
    return json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "test", **kinds})


async def test_of_the_last_output_2_kib_are_kept_however_long_its_lines(
    served: tuple[ApiServer, Cluster],
) -> None:
    _, cluster = served
    output = await last_output(cluster, pod("ws-a-0"))
    assert len(output) == 2048
    assert output.endswith("xend of the long one\nlast\n")


async def test_a_long_line_of_a_log_comes_in_pieces_at_its_position(
    served: tuple[ApiServer, Cluster],
) -> None:
    _, cluster = served
    reading = read_logs(cluster, pod("ws-a-0"), since=0, follow=False, tail=0)
    chunks = [chunk async for chunk in reading]
    assert max(len(chunk.data) for chunk in chunks) <= 64 * 1024
    whole = b"".join(chunk.data for chunk in chunks)
    assert whole == b"first\n" + b"x" * _LONG + b"end of the long one\nlast\n"
    positions = [chunk.offset for chunk in chunks]
    assert positions == sorted(positions)
    assert len(set(positions)) == 3
    long = positions[1]
    rest = [
        c.data async for c in read_logs(cluster, pod("ws-a-0"), since=long, follow=False, tail=0)
    ]
    assert rest == [b"last\n"]


async def test_of_pods_only_what_is_read_is_kept(served: tuple[ApiServer, Cluster]) -> None:
    """Listed page by page, and changed by events longer than aiohttp's own lines."""
    server, cluster = served
    pods = Pods(cluster, "installation")
    async with contextlib.aclosing(pods.changes("ws-b-0")) as changes:
        found = await anext(changes)
        assert found == {
            "metadata": {"name": "ws-b-0", "namespace": "molecule", "labels": {"a": "b"}},
            "status": {"phase": "Pending", "podIP": "10.0.0.1"},
        }
        assert server.pages == ["", "second"]
        await server.changes.put({"type": "MODIFIED", "object": pod("ws-b-0", "Running")})
        changed = await anext(changes)
        assert changed is not None
        assert changed["status"]["phase"] == "Running"
        assert "spec" not in changed
    assert server.pages == ["", "second"]
    await pods.close()


async def test_lines_are_found_wherever_an_answer_is_cut() -> None:
    """Also a line of just the most bytes, and a last one without a line feed."""
    text = b"ab\n\nabcdefgh\nabcdefghi\nabcdefg\nx"
    for size in range(1, len(text) + 1):
        found = [each async for each in pieces_of_lines(_Cut(text, size), 8)]  # type: ignore[arg-type]
        assert b"".join(found) == text
        assert found == [
            b"ab\n", b"\n", b"abcdefgh", b"\n", b"abcdefgh", b"i\n", b"abcdefg\n", b"x",
        ]  # fmt: skip


class _Cut:
    """Bytes that come `size` at a time."""

    def __init__(self, text: bytes, size: int) -> None:
        self._pieces = [text[at : at + size] for at in range(0, len(text), size)]

    async def read(self, most: int) -> bytes:
        assert most > 0
        return self._pieces.pop(0) if self._pieces else b""
