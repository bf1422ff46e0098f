"""The audit log on real Postgres: bounded, kept while the database is away, and swept."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from asyncpg import InterfaceError
from moleculeai.workspace.v1 import workspace_service_pb2 as workspace

from molecule_grpc.auth import audit_store
from molecule_grpc.auth.policy import POLICIES
from molecule_grpc.auth.principal import ANONYMOUS, OPERATOR, Principal, Role
from molecule_grpc.db.pool import Pool, connect_pool
from molecule_grpc.server.audit import AuditLog
from molecule_grpc.server.call import Call
from molecule_grpc.server.status import Code
from molecule_grpc.settings.audit import AuditSettings

PEERS = "/moleculeai.workspace.v1.WorkspaceService/ListPeers"
REMOVE = "/moleculeai.workspace.v1.WorkspaceService/DeleteWorkspace"
HEARTBEAT = "/moleculeai.workspace.v1.WorkspaceService/Heartbeat"


def refuse(log: AuditLog, principal: Principal, workspace_id: str = "") -> None:
    request = workspace.ListPeersRequest(workspace_id=workspace_id or str(uuid4()))
    call = Call(metadata={"x-request-id": "r\x00"}, principal=principal)
    log.ended(PEERS, POLICIES[PEERS], request, call, Code.UNAUTHENTICATED, "UNAUTHENTICATED")


def act(log: AuditLog, path: str = REMOVE) -> None:
    request = workspace.DeleteWorkspaceRequest(workspace_id=str(uuid4()))
    call = Call(metadata={}, principal=OPERATOR, admitted=True)
    log.ended(path, POLICIES[path], request, call, Code.OK, "")


async def stored(pool: Pool, organization_id: UUID | None = None) -> list[audit_store.AuditEntry]:
    return await audit_store.newest(
        pool, organization_id=organization_id, workspace_id=None, before=None, limit=1000
    )


async def test_a_flood_of_refusals_writes_few_entries_and_hides_nobody_s(pool: Pool) -> None:
    log = AuditLog(pool, AuditSettings())
    organization = uuid4()
    victim = Principal(Role.ORGANIZATION, organization_id=organization)
    for _ in range(1_000):
        refuse(log, ANONYMOUS)
    for _ in range(3):
        refuse(log, victim, workspace_id=str(UUID(int=1)))
    await log.write()
    assert await stored(pool) == []  # The window is still open.
    await log.close()
    assert len(await stored(pool)) == 51
    [told] = await stored(pool, organization)
    assert (told.calls, told.request_id) == (3, "r")


async def test_what_an_administrator_does_as_a_workspace_is_counted(pool: Pool) -> None:
    """A fleet that heartbeats with the operator's token costs an entry a minute."""
    log = AuditLog(pool, AuditSettings())
    for _ in range(100):
        act(log, HEARTBEAT)
    await log.write()
    assert await stored(pool) == []
    await log.close()
    assert sum(entry.calls for entry in await stored(pool)) >= 50


async def test_strangers_hide_nothing_that_the_operator_does(pool: Pool) -> None:
    log = AuditLog(pool, AuditSettings())
    for _ in range(1_000):
        refuse(log, ANONYMOUS)
    for _ in range(60):
        act(log, HEARTBEAT)
    await log.close()
    assert len([entry for entry in await stored(pool) if entry.party == "operator"]) == 60


async def test_a_flood_of_acts_of_a_tenant_writes_few_entries_and_counts_them_all(
    pool: Pool,
) -> None:
    """A workspace that makes and revokes tokens for ever fills no disk."""
    log = AuditLog(pool, AuditSettings())
    path = "/moleculeai.workspace.v1.WorkspaceService/RevokeToken"
    who = Principal(Role.WORKSPACE, organization_id=uuid4(), workspace_id=uuid4())
    for _ in range(3_000):
        request = workspace.RevokeTokenRequest(
            workspace_id=str(who.workspace_id), token_id=str(uuid4())
        )
        call = Call(metadata={}, principal=who, admitted=True)
        log.ended(path, POLICIES[path], request, call, Code.OK, "")
    await log.close()
    entries = await stored(pool, who.organization_id)
    assert len(entries) == 501
    assert sum(entry.calls for entry in entries) == 3_000


async def test_strangers_who_name_organisations_share_one_bound(pool: Pool) -> None:
    """Each names another organisation in its request, as anybody can."""
    log = AuditLog(pool, AuditSettings())
    path = "/moleculeai.workspace.v1.WorkspaceService/GetQuota"
    for _ in range(3_000):
        request = workspace.GetQuotaRequest(organization_id=str(uuid4()))
        call = Call(metadata={}, principal=ANONYMOUS)
        log.ended(path, POLICIES[path], request, call, Code.UNAUTHENTICATED, "UNAUTHENTICATED")
    victim = uuid4()
    refuse(log, Principal(Role.ORGANIZATION, organization_id=victim))
    await log.close()
    assert len(await stored(pool)) == 51
    assert len(await stored(pool, victim)) == 1


async def test_many_organisations_hide_nobody_s_refusals(pool: Pool) -> None:
    log = AuditLog(pool, AuditSettings())
    for _ in range(6):
        attacker = Principal(Role.ORGANIZATION, organization_id=uuid4())
        for _ in range(100):
            refuse(log, attacker)
    organization = uuid4()
    refuse(log, Principal(Role.ORGANIZATION, organization_id=organization))
    await log.close()
    assert len(await stored(pool, organization)) == 1


async def test_an_act_that_fails_over_and_over_is_counted(pool: Pool) -> None:
    log = AuditLog(pool, AuditSettings())
    who = Principal(Role.ORGANIZATION, organization_id=uuid4())
    request = workspace.DeleteWorkspaceRequest(workspace_id=str(uuid4()))
    for _ in range(100):
        call = Call(metadata={}, principal=who, admitted=True)
        log.ended(REMOVE, POLICIES[REMOVE], request, call, Code.NOT_FOUND, "WORKSPACE_NOT_FOUND")
    await log.close()
    assert [entry.calls for entry in await stored(pool)] == [100]


async def test_a_long_outage_keeps_a_bounded_number_of_entries(
    pool: Pool, database_url: str
) -> None:
    away = await connect_pool(database_url, min_size=1, max_size=1)
    log = AuditLog(away, AuditSettings(window_seconds=0.000001))
    await away.close()
    for _ in range(300):
        for _ in range(50):
            refuse(log, ANONYMOUS)
        with pytest.raises(InterfaceError):
            await log.write()
    assert len(log._acts) == 10_000


async def test_an_act_waits_for_a_database_that_is_away(pool: Pool, database_url: str) -> None:
    away = await connect_pool(database_url, min_size=1, max_size=1)
    log = AuditLog(away, AuditSettings())
    await away.close()
    act(log)
    await log.close()
    assert await stored(pool) == []
    log._pool = pool
    await log.write()
    await log.write()
    assert [entry.rpc for entry in await stored(pool)] == ["WorkspaceService/DeleteWorkspace"]


async def test_reads_and_calls_of_workspaces_are_no_entries(pool: Pool) -> None:
    log = AuditLog(pool, AuditSettings())
    agent = Principal(Role.WORKSPACE, workspace_id=uuid4())
    for path, principal in ((PEERS, OPERATOR), (HEARTBEAT, agent)):
        call = Call(metadata={}, principal=principal, admitted=True)
        log.ended(path, POLICIES[path], None, call, Code.OK, "")
    await log.close()
    assert await stored(pool) == []


async def test_old_entries_go_and_young_ones_stay(pool: Pool) -> None:
    log = AuditLog(pool, AuditSettings(retention_days=7))
    for _ in range(3):
        act(log)
    await log.write()
    young = await stored(pool)
    old = [
        entry._replace(id=uuid4(), at=entry.at.replace(year=entry.at.year - 1)) for entry in young
    ]
    await audit_store.append(pool, old)
    await log.sweep()
    assert await stored(pool) == young
