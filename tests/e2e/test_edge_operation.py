"""How the edge behaves around its workers: health, retries, limits, operators, start and stop."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import grpc
import httpx
import pytest
from moleculeai.delegation.v1 import delegation_service_pb2

from molecule_grpc.server.edge.config import EdgeConfig
from molecule_grpc.server.edge.process import Edge, EdgeError
from tests.e2e.scripted_edge import ScriptedEdge, scripted_edge
from tests.e2e.scripted_worker import Reply
from tests.ports import free_port
from tests.waiting import PATIENCE

UNAVAILABLE = {
    "error": "the platform is not available",
    "code": "platform_unavailable",
    "retry_after": 1,
}
LIVENESS = "/moleculeai.admin.v1.AdminService/GetLiveness"
HEALTH = "/moleculeai.admin.v1.AdminService/GetHealth"


@pytest.fixture
async def edge() -> AsyncIterator[ScriptedEdge]:
    async with scripted_edge() as running:
        yield running


@pytest.fixture
def metrics_port() -> Iterator[int]:
    """Where the workers' metrics are."""

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(b"up 1\n")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Metrics) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


async def until(http: httpx.AsyncClient, path: str, status: int) -> httpx.Response:
    """Ask until the answer has this status."""
    async with asyncio.timeout(PATIENCE):
        while (response := await http.get(path)).status_code != status:
            await asyncio.sleep(0.05)  # Envoy has nothing to wait on.
    return response


# Health.


async def test_a_worker_that_drains_gets_no_more_calls(edge: ScriptedEdge) -> None:
    assert (await edge.http.get("/healthz")).json() == {"status": "ok"}
    await edge.worker.set_serving(False)
    await until(edge.http, "/healthz", 503)
    edge.script()
    response = await edge.http.get("/workspaces")
    assert (response.status_code, response.json()) == (503, UNAVAILABLE)
    assert not edge.worker.calls
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await edge.native(HEALTH)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "{" not in (caught.value.details() or "")
    await edge.worker.set_serving(True)
    await until(edge.http, "/workspaces", 200)


async def test_without_any_worker_the_answer_is_503(edge: ScriptedEdge) -> None:
    await edge.worker.stop()
    for method in ("GET", "POST"):
        response = await edge.http.request(method, "/workspaces")
        assert (response.status_code, response.json()) == (503, UNAVAILABLE)


# Retries.


async def test_a_read_is_tried_again_and_a_write_is_not(edge: ScriptedEdge) -> None:
    lost = Reply(error=(grpc.StatusCode.UNAVAILABLE, "lost"))
    edge.script(lost, Reply())
    assert (await edge.http.get("/workspaces/w")).status_code == 200
    assert len(edge.worker.calls) == 2
    edge.script(lost, Reply())
    assert (await edge.http.patch("/workspaces/w", json={})).status_code == 503
    assert len(edge.worker.calls) == 1


async def test_a_worker_that_gives_notice_and_stops_costs_no_call() -> None:
    """Also of those that must not run twice."""
    async with scripted_edge(workers=2) as edge, calling(edge, "POST", "GET") as statuses:
        await called(edge)
        await edge.worker.set_serving(False)
        await passed_over(edge, statuses)
        seen = len(edge.worker.calls)
        await edge.worker.stop(grace=5)
        await passed_over(edge, statuses)
        assert len(edge.worker.calls) == seen
    assert set(statuses) == {200}


@pytest.mark.clock
async def test_a_worker_that_stops_without_notice_costs_no_read() -> None:
    async with scripted_edge(workers=2) as edge, calling(edge, "GET") as statuses:
        await called(edge)
        await edge.worker.stop()
        await asyncio.sleep(1.0)
    assert set(statuses) == {200}


async def called(edge: ScriptedEdge) -> None:
    """Return when every worker has had a call: none gets one before it was found healthy."""
    async with asyncio.timeout(PATIENCE):
        while not all(worker.calls for worker in edge.workers):
            await asyncio.sleep(0.01)


async def passed_over(edge: ScriptedEdge, statuses: list[int]) -> None:
    """Return when a hundred calls in a row went to other workers than the first."""
    async with asyncio.timeout(PATIENCE):
        seen, since = len(edge.worker.calls), len(statuses)
        while len(statuses) < since + 100:
            await asyncio.sleep(0.01)
            if len(edge.worker.calls) != seen:
                seen, since = len(edge.worker.calls), len(statuses)


@contextlib.asynccontextmanager
async def calling(edge: ScriptedEdge, *methods: str) -> AsyncIterator[list[int]]:
    """Call without a pause, eight at a time, while the block runs; the statuses."""
    statuses: list[int] = []
    ending = asyncio.Event()

    async def call(method: str) -> None:
        while not ending.is_set():
            response = await edge.http.request(method, "/workspaces", timeout=PATIENCE)
            statuses.append(response.status_code)

    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(call(methods[number % len(methods)]))
        try:
            yield statuses
        finally:
            ending.set()


# Limits.


async def test_a_client_that_calls_too_often_is_told_when_to_come_back() -> None:
    async with scripted_edge(rate_limit_per_minute=3) as edge:
        answers = [await edge.http.get("/workspaces") for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        assert answers[-1].json() == {"error": "too many requests", "retry_after": 20}
        assert answers[-1].headers["retry-after"] == "20"
        assert (await edge.http.get("/health")).status_code == 200
        elsewhere = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
        async with httpx.AsyncClient(
            base_url=edge.http.base_url, transport=elsewhere, timeout=PATIENCE
        ) as another:
            assert (await another.get("/workspaces")).status_code == 200
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await edge.native("/moleculeai.workspace.v1.WorkspaceService/GetWorkspace")
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_an_address_without_a_token_is_limited_and_tokens_from_there_are_not() -> None:
    async with scripted_edge(stranger_calls_per_minute=3) as edge:
        answers = [await edge.http.get("/workspaces") for _ in range(5)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        assert answers[-1].headers["retry-after"] == "20"
        assert (await edge.http.get("/health")).status_code == 200
        known = {"authorization": "Bearer token"}
        for _ in range(5):
            assert (await edge.http.get("/workspaces", headers=known)).status_code == 200
        elsewhere = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
        async with httpx.AsyncClient(
            base_url=edge.http.base_url, transport=elsewhere, timeout=PATIENCE
        ) as another:
            assert (await another.get("/workspaces")).status_code == 200


async def test_thousands_of_streams_are_open_at_once(edge: ScriptedEdge) -> None:
    """Envoy's default would refuse the 1,025th."""
    path = "/moleculeai.delegation.v1.DelegationService/StreamInbox"
    frame = delegation_service_pb2.StreamInboxResponse()
    edge.script(Reply([frame, frame], pause=60))
    opens: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = edge.channel.unary_stream(path)
    calls = [opens(b"") for _ in range(1500)]
    async with asyncio.timeout(PATIENCE):
        assert await asyncio.gather(*(call.read() for call in calls)) == [b""] * len(calls)
    for call in calls:
        call.cancel()


# Operators.


async def test_admin_is_public_only_without_an_operator_port(metrics_port: int) -> None:
    async with scripted_edge(metrics_port=metrics_port) as edge:
        assert (await edge.http.get("/admin/liveness")).status_code == 200
        await edge.native(LIVENESS)


async def test_metrics_are_nobodys_on_the_public_port_by_default(metrics_port: int) -> None:
    async with scripted_edge(metrics_port=metrics_port) as edge:
        refused = await edge.http.get("/metrics")
        assert (refused.status_code, list(refused.json())) == (404, ["error"])
    async with scripted_edge(metrics_port=metrics_port, public_metrics=True) as edge:
        assert (await edge.http.get("/metrics")).text == "up 1\n"


async def test_metrics_are_shown_for_their_token(metrics_port: int) -> None:
    async with scripted_edge(metrics_port=metrics_port, metrics_token="metrics-token") as edge:
        for header in ({}, {"authorization": "Bearer metrics-tokens"}, {"authorization": "Bearer"}):
            refused = await edge.http.get("/metrics", headers=header)
            assert (refused.status_code, list(refused.json())) == (401, ["error"])
        shown = await edge.http.get("/metrics", headers={"authorization": "Bearer metrics-token"})
        assert shown.text == "up 1\n"


async def test_admin_is_on_the_operator_port_where_there_is_one(metrics_port: int) -> None:
    operator = free_port()
    async with (
        scripted_edge(metrics_port=metrics_port, operator_port=operator) as edge,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{operator}", timeout=PATIENCE) as http,
        grpc.aio.insecure_channel(f"127.0.0.1:{operator}") as channel,
    ):
        for path in ("/admin/liveness", "/org/tokens", "/metrics"):
            refused = await edge.http.get(path)
            assert (refused.status_code, list(refused.json())) == (404, ["error"])
            assert (await http.get(path)).status_code == 200
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await edge.native(LIVENESS)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        liveness: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(LIVENESS)
        await liveness(b"")
        assert (await edge.http.get("/health")).status_code == 200
        await edge.native(HEALTH)
        assert (await http.get("/workspaces")).status_code == 200


# Start and stop.


async def test_a_second_edge_on_the_same_port_refuses_to_start(
    edge: ScriptedEdge, tmp_path: Path
) -> None:
    second = Edge(dataclasses.replace(edge.edge.config), tmp_path)
    await second.start()
    with pytest.raises(EdgeError, match=str(edge.port)):
        await second.wait_ready()
    await second.stop()


async def test_a_start_that_is_given_up_says_so(tmp_path: Path) -> None:
    """Behind a name that no worker listens at, in no time at all."""
    edge = Edge(EdgeConfig(port=free_port(), worker_sockets=[tmp_path / "none"]), tmp_path)
    await edge.start()
    with pytest.raises(EdgeError, match="not ready after 0 s"):
        await edge.wait_ready(0)
    await edge.stop()


async def test_after_stop_nobody_listens_and_stopping_again_is_harmless(
    edge: ScriptedEdge,
) -> None:
    await edge.edge.stop()
    await edge.edge.stop()
    with pytest.raises(httpx.ConnectError):
        await edge.http.get("/health")


async def test_the_admin_interface_is_for_this_user_only(edge: ScriptedEdge) -> None:
    assert edge.edge.admin_socket.stat().st_mode & 0o077 == 0


async def test_the_edge_listens_on_ipv6() -> None:
    async with scripted_edge(host="::") as edge, httpx.AsyncClient(timeout=PATIENCE) as http:
        for host in ("[::1]", "127.0.0.1"):
            answer = await http.get(f"http://{host}:{edge.port}/healthz")
            assert answer.status_code == 200
