"""No server may answer a heartbeat before its commit: shown by a row that somebody else holds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import asyncpg
import grpc
import httpx
from moleculeai.workspace.v1 import workspace_service_pb2 as pb
from moleculeai.workspace.v1.workspace_service_pb2_grpc import WorkspaceServiceStub

from benchmarks.harness import Agent
from benchmarks.peers.sides import Side

_HELD_SECONDS = 0.5
_MOVED = """
    SELECT last_heartbeat_at > clock_timestamp() - interval '10 seconds' AND active_tasks = $2
    FROM workspaces WHERE id = $1
"""


async def require_durable(side: Side, agent: Agent) -> None:
    """Raises AssertionError for a server that answers while the workspace's row cannot be written,
    or whose answer comes before the row says so."""
    if side.grpc:
        await _held(side.dsn, agent, 2, _over_grpc(side.grpc, agent, 2))
    if side.rest:
        await _held(side.dsn, agent, 3, _over_rest(side.rest, agent, 3))


async def _held(dsn: str, agent: Agent, tasks: int, call: Awaitable[None]) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM workspaces WHERE id = $1 FOR UPDATE", agent.id)
            answering = asyncio.ensure_future(call)
            done, _ = await asyncio.wait({answering}, timeout=_HELD_SECONDS)
            assert not done, "answered before the commit"
        await answering
        assert await connection.fetchval(_MOVED, agent.id, tasks), "answered and not written"
    finally:
        await connection.close()


async def _over_grpc(target: str, agent: Agent, tasks: int) -> None:
    request = pb.HeartbeatRequest(workspace_id=str(agent.id), active_tasks=tasks)
    async with grpc.aio.insecure_channel(target) as channel:
        answer = await WorkspaceServiceStub(channel).Heartbeat(request, metadata=agent.metadata)
    assert answer.status == "ok"
    assert answer.platform_inbound_secret


async def _over_rest(target: str, agent: Agent, tasks: int) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(
            f"http://{target}/registry/heartbeat",
            json={"workspace_id": str(agent.id), "active_tasks": tasks},
            headers=dict(agent.metadata),
            timeout=10,
        )
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "ok"
    assert answer.json()["platform_inbound_secret"]
