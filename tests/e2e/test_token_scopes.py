"""Read-only and expiring tokens."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import asyncpg
import pytest
from moleculeai.workspace.v1 import workspace_service_pb2 as workspace

from molecule_grpc.auth.policy import POLICIES
from molecule_grpc.auth.principal import Role
from tests.e2e import test_access_matrix as matrix
from tests.e2e.families import Family
from tests.e2e.outcomes import call
from tests.e2e.parties import Agent, Organization, Party, until_refused
from tests.e2e.rows import Rows
from tests.e2e.valid_requests import valid_frames
from tests.running import RunningServer
from tests.waiting import PATIENCE
from tools.descriptors import Contract, Rpc

RPCS = [rpc for rpc in Contract.load().rpcs() if POLICIES[f"/{rpc.service}/{rpc.name}"].asks]
AT_BEST = {name: code for name, (code, _) in matrix.AT_BEST.items()}


async def a_reader(party: Party, path: str) -> Party:
    minted = await party.rest("POST", path, {"read_only": True})
    assert minted.status_code in (200, 201), minted.text
    assert minted.json()["read_only"] is True
    return party.wire.party(minted.json()["auth_token"])


@pytest.fixture(scope="module")
async def readers(bystanders: Family) -> dict[str, Party]:
    """Who may only read: in the workspace, in its organisation, and in foreign ones."""
    own, foreign = bystanders.own, bystanders.foreign
    return {
        "own token": await a_reader(own, f"/workspaces/{own.id}/tokens"),
        "own organization": await a_reader(bystanders.org, "/org/tokens"),
        "foreign workspace": await a_reader(foreign, f"/workspaces/{foreign.id}/tokens"),
        "foreign organization": await a_reader(bystanders.other_org, "/org/tokens"),
    }


@pytest.mark.parametrize("rpc", RPCS, ids=lambda rpc: rpc.name)
async def test_a_token_that_only_reads_reads_what_its_owner_may_and_nothing_else(
    rpc: Rpc, bystanders: Family, readers: dict[str, Party], rows: Rows
) -> None:
    """For every RPC, and nothing changes, whatever the answer is."""
    policy = POLICIES[f"/{rpc.service}/{rpc.name}"]
    for name, party in readers.items():
        role = Role.ORGANIZATION if name.endswith("organization") else Role.WORKSPACE
        frames = [frame.SerializeToString() for frame in await valid_frames(rpc, bystanders)]
        before = await rows.look()
        told = (await call(party, rpc, *frames)).code
        if role not in policy.roles:
            assert told == "UNAUTHENTICATED"
        elif policy.reads:
            code = matrix.expected(rpc)[name]
            assert told == (AT_BEST.get(rpc.name, "OK") if code == "OK" else code), name
        else:
            assert told == "PERMISSION_DENIED"
        assert await rows.changed_since(before) == []


async def test_a_reader_is_told_why_over_rest(org: Organization) -> None:
    agent = await org.hire()
    reader = await a_reader(agent, f"/workspaces/{agent.id}/tokens")
    refused = await reader.rest("POST", "/registry/heartbeat", {"workspace_id": agent.id})
    assert (refused.status_code, refused.json()) == (403, {"error": "the token may only read"})
    listed = (await reader.rest("GET", f"/workspaces/{agent.id}/tokens")).json()["tokens"]
    assert {each["read_only"] for each in listed} == {True, False}


@pytest.mark.clock
async def test_a_token_ends_at_its_time_with_all_that_it_opened(org: Organization) -> None:
    agent = await org.hire()
    minted = await agent.rest("POST", f"/workspaces/{agent.id}/tokens", {"ttl_seconds": 2})
    ends = datetime.fromisoformat(minted.json()["expires_at"])
    assert 0 < (ends - datetime.now(UTC)).total_seconds() <= 2
    brief = agent.wire.party(minted.json()["auth_token"])
    # Known to the worker's cache, for longer than the token lives.
    assert (await brief.rest("GET", f"/registry/{agent.id}/peers")).status_code == 200
    async with asyncio.timeout(PATIENCE):
        waited = await brief.rest("GET", f"/workspaces/{agent.id}/inbox", wait_seconds=30)
    assert waited.status_code == 401
    assert abs((datetime.now(UTC) - ends).total_seconds()) < 5
    await until_refused(brief, f"/registry/{agent.id}/peers")
    listed = (await agent.rest("GET", f"/workspaces/{agent.id}/tokens")).json()["tokens"]
    assert minted.json()["id"] not in {each["id"] for each in listed}


async def test_a_token_that_expires_mints_none_that_outlives_it(org: Organization) -> None:
    minted = await org.rest("POST", "/org/tokens", {"ttl_seconds": 600})
    brief = org.wire.party(minted.json()["auth_token"])
    ends = minted.json()["expires_at"]
    for asked in ({}, {"ttl_seconds": 6000}):
        other = (await brief.rest("POST", "/org/tokens", asked)).json()
        assert other["expires_at"][:23] == ends[:23]
    shorter = (await brief.rest("POST", "/org/tokens", {"ttl_seconds": 60})).json()
    assert shorter["expires_at"] < ends


async def test_an_agent_whose_tokens_have_expired_has_room_for_new_ones(
    org: Organization, server: RunningServer
) -> None:
    agent: Agent = await org.hire()
    connection = await asyncpg.connect(server.database_url)
    try:
        await connection.execute(
            "INSERT INTO workspace_auth_tokens (id, workspace_id, token_hash, prefix, expires_at)"
            " SELECT gen_random_uuid(), $1, sha256(uuid_send(gen_random_uuid())), 'old', now()"
            " FROM generate_series(1, 60)",
            agent.id,
        )
    finally:
        await connection.close()
    request = workspace.CreateTokenRequest(workspace_id=agent.id)
    assert len((await agent.rpc(request)).auth_token) == 43
