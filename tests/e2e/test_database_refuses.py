"""A database that refuses connections: callers read UNAVAILABLE, and when to try again."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

import asyncpg
import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from tests.conftest import as_server, execute
from tests.e2e.parties import Agent, Organization, found, wire_to
from tests.running import RunningServer
from tests.waiting import PATIENCE, until

SAID = {
    "error": "the database is not available, try again",
    "code": "platform_unavailable",
    "retry_after": 1,
}
_END_SESSIONS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = '{name}' AND application_name <> 'holder'
"""


@contextlib.asynccontextmanager
async def exhausted(postgres: str, database_url: str) -> AsyncIterator[None]:
    """All connections that the database may have are taken, by others (SQLSTATE 53300)."""
    name = urlsplit(database_url).path[1:]
    role, settings = as_server(database_url), {"application_name": "holder"}
    holders = [await asyncpg.connect(role, server_settings=settings) for _ in range(2)]
    await execute(postgres, f"ALTER DATABASE {name} CONNECTION LIMIT {len(holders)}")
    await execute(postgres, _END_SESSIONS.format(name=name))
    try:
        yield
    finally:
        for holder in holders:
            await holder.close()
        await execute(postgres, f"ALTER DATABASE {name} CONNECTION LIMIT -1")


@contextlib.asynccontextmanager
async def closed(postgres: str, database_url: str) -> AsyncIterator[None]:
    """The database takes no connections, as while it is being restored (SQLSTATE 55000)."""
    name = urlsplit(database_url).path[1:]
    await execute(postgres, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    await execute(postgres, _END_SESSIONS.format(name=name))
    try:
        yield
    finally:
        await execute(postgres, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


async def test_callers_read_unavailable_and_when_to_retry(
    own_server: Callable[..., RunningServer], database_url: str, postgres: str
) -> None:
    """For each kind of statement: by the pool and by the writers, of known and unknown tokens."""
    server = own_server()
    async with wire_to(server) as wire:
        org = await found(wire, wire.party(server.admin_token))
        agent = await org.hire()
        for refusing in (exhausted, closed):
            async with refusing(postgres, database_url):
                # A session that was just ended fails the first statement in other words.
                await reads(agent)
                await over_rest(org, agent)
                await over_grpc(agent)
            await until(lambda: reads(agent), lambda status: status == 200)


async def reads(agent: Agent) -> int:
    return (await agent.rest("GET", f"/workspaces/{agent.id}/inbox")).status_code


async def over_rest(org: Organization, agent: Agent) -> None:
    for caller, method, path, body in (
        (agent, "GET", f"/workspaces/{agent.id}/inbox", None),
        (agent, "GET", f"/workspaces/{agent.id}/activity", None),
        (agent, "POST", "/registry/heartbeat", {"workspace_id": agent.id}),
        (agent, "POST", f"/workspaces/{agent.id}/activity", {"activity_type": "agent_log"}),
        (org, "GET", "/workspaces", None),
        (org.wire.party("unknown"), "GET", f"/workspaces/{agent.id}/inbox", None),
        (org.wire.party(), "GET", "/health", None),
    ):
        answer = await caller.rest(method, path, body)
        assert (answer.status_code, answer.json()) == (503, SAID), path
        assert answer.headers["retry-after"] == "1"


async def over_grpc(agent: Agent) -> None:
    call: grpc.aio.UnaryUnaryMultiCallable[pb.PullInboxRequest, bytes]
    call = agent.wire.channel.unary_unary(
        "/moleculeai.delegation.v1.DelegationService/PullInbox",
        request_serializer=pb.PullInboxRequest.SerializeToString,
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(
            pb.PullInboxRequest(workspace_id=agent.id),
            metadata=tuple(agent.headers.items()),
            timeout=PATIENCE,
        )
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    details = dict(caught.value.trailing_metadata() or ())["grpc-status-details-bin"]
    retry, info = error_details_pb2.RetryInfo(), error_details_pb2.ErrorInfo()
    for detail in status_pb2.Status.FromString(details).details:
        assert detail.Unpack(retry) or detail.Unpack(info)
    assert (retry.retry_delay.seconds, info.reason) == (1, "DATABASE_UNAVAILABLE")
