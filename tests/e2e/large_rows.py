"""The largest rows that each list may hold, written where a list reads them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import asyncpg
from google.protobuf.message import Message
from moleculeai.admin.v1 import admin_service_pb2 as admin
from moleculeai.delegation.v1 import delegation_service_pb2 as delegation
from moleculeai.upload.v1 import upload_service_pb2 as upload
from moleculeai.workspace.v1 import approval_pb2 as approval
from moleculeai.workspace.v1 import schedule_pb2 as schedule
from moleculeai.workspace.v1 import workspace_service_pb2 as workspace

from tests.e2e.parties import Agent, Organization, Party

KIB = 1024


@dataclass(frozen=True, slots=True)
class Scene:
    """Who may call, and the database behind them."""

    operator: Party
    org: Organization
    agent: Agent
    database: asyncpg.Connection[asyncpg.Record]


@dataclass(frozen=True, slots=True)
class Listing:
    """One list with more rows than a page may hold.

    Args:
        plant: writes the rows; the request asks for as many as the RPC permits.
        key: the field that names a row.
        caller: who may read the list: a field of the scene.
        rows: how many rows there are; 0 where rows of others are among them.
    """

    plant: Callable[[Scene], Awaitable[Message]]
    key: str
    caller: str
    rows: int


# Workspaces. A number of two bytes in the text of a card takes eleven in a message.

_CARD = {"texts": ["x" * (50 * KIB), "\u20ac" * (20 * KIB), "\x01" * (10 * KIB)], "n": [1] * 20_000}


async def _siblings(scene: Scene) -> None:
    card = json.dumps(_CARD, ensure_ascii=False, separators=(",", ":"))
    await scene.database.execute(
        """
        INSERT INTO workspaces (id, organization_id, name, role, tier, status, agent_card, url,
                                last_sample_error, current_task)
        SELECT gen_random_uuid(), $1, repeat(chr(8364), 80) || n, repeat('r', 1000), 3, 'online',
               $2, repeat('u', 2048), repeat('e', 8192), repeat('t', 8192)
        FROM generate_series(1, 40) n
        """,
        scene.org.id,
        card,
    )


async def _workspaces(scene: Scene) -> Message:
    await _siblings(scene)
    return workspace.ListWorkspacesRequest(limit=10_000)


async def _peers(scene: Scene) -> Message:
    await _siblings(scene)
    return workspace.ListPeersRequest(workspace_id=scene.agent.id, limit=1000)


async def _tokens(scene: Scene) -> Message:
    await scene.database.execute(
        """
        INSERT INTO workspace_auth_tokens (id, workspace_id, token_hash, prefix)
        SELECT gen_random_uuid(), $1, sha256(random()::text::bytea), '12345678'
        FROM generate_series(1, 210) n
        """,
        scene.agent.id,
    )
    return workspace.ListTokensRequest(workspace_id=scene.agent.id, limit=200)


# Operators.


async def _organizations(scene: Scene) -> Message:
    await scene.database.execute(
        """
        INSERT INTO organizations (id, slug, name)
        SELECT gen_random_uuid(), lpad(n::text, 63, '0'), repeat('n', 255)
        FROM generate_series(1, 1010) n
        """
    )
    return admin.ListOrganizationsRequest(limit=1000)


async def _org_tokens(scene: Scene) -> Message:
    await scene.database.execute(
        """
        INSERT INTO org_api_tokens (id, organization_id, token_hash, prefix, name, created_by)
        SELECT gen_random_uuid(), $1, sha256(random()::text::bytea), '12345678', repeat('n', 100),
               'org-token:12345678'
        FROM generate_series(1, 509) n
        """,
        scene.org.id,
    )
    return admin.ListOrgTokensRequest(limit=500)


async def _delegations(scene: Scene) -> None:
    await scene.database.execute(
        """
        INSERT INTO delegations (delegation_id, caller_id, callee_id, organization_id, status,
                                 task_preview, result_preview, error_detail, created_at)
        SELECT lpad(n::text, 256, 'd'), $1, gen_random_uuid(), $2, 'stuck', repeat('t', 4096),
               repeat('r', 4096), repeat('e', 4096), now() - make_interval(secs => n % 50)
        FROM generate_series(1, 1100) n
        """,
        scene.agent.id,
        scene.org.id,
    )


async def _ledger(scene: Scene) -> Message:
    await _delegations(scene)
    return admin.ListDelegationsRequest(status="stuck", limit=1000)


async def _dead_letters(scene: Scene) -> Message:
    await scene.database.execute(
        """
        WITH record AS (
            INSERT INTO activity_logs (id, workspace_id, activity_type, summary, record_seq)
            SELECT gen_random_uuid(), $1, 'a2a_receive', repeat('s', 65536), n
            FROM generate_series(1, 100) n RETURNING id, record_seq
        )
        INSERT INTO inbox_items (workspace_id, seq, message_id, activity_id, method, bytes,
                                 bytes_through, done_at, outcome, reason, deliveries)
        SELECT $1, record_seq, lpad(record_seq::text, 256, 'm'), id, repeat('m', 128), 0, 0,
               now() - make_interval(secs => record_seq % 7), 'poison', repeat('r', 1000), 5
        FROM record
        """,
        scene.agent.id,
    )
    return admin.ListDeadLettersRequest(workspace_id=scene.agent.id, limit=500)


async def _audit_log(scene: Scene) -> Message:
    # Of a workspace that is gone: the server adds nothing to its entries meanwhile.
    workspace_id = str(uuid.uuid4())
    await scene.database.execute(
        """
        INSERT INTO audit_log (id, at, party, token_prefix, organization_id, workspace_id, rpc,
                               subject, outcome, reason, address, request_id, calls)
        SELECT gen_random_uuid(), now(), 'organization', '12345678', $1, $2,
               'AdminService/CreateOrgToken', repeat(chr(8364), 200), 'RESOURCE_EXHAUSTED',
               'RESOURCE_EXHAUSTED', repeat('a', 45), repeat('q', 128), 1
        FROM generate_series(1, 510)
        """,
        scene.org.id,
        workspace_id,
    )
    return admin.ListAuditLogRequest(workspace_id=workspace_id, limit=500)


async def _events(scene: Scene) -> Message:
    await scene.database.execute(
        """
        INSERT INTO structure_events (id, event_type, organization_id, workspace_id, payload)
        SELECT gen_random_uuid(), 'AGENT_CARD_UPDATED', $1, $2, $3
        FROM generate_series(1, 40)
        """,
        scene.org.id,
        scene.agent.id,
        json.dumps(_CARD | {"texts": ["x" * (100 * KIB)]}),
    )
    return admin.ListEventsRequest(workspace_id=scene.agent.id, limit=500)


# Delegations, messages and files.


async def _own_delegations(scene: Scene) -> Message:
    await _delegations(scene)
    return delegation.ListDelegationsRequest(workspace_id=scene.agent.id, limit=500)


async def _messages(scene: Scene, size: int = 1_040_000, count: int = 6) -> None:
    """Bodies of 1 MiB, which the text of each fills."""
    for number in range(count):
        text = chr(ord("a") + number) * size
        message = {"role": "user", "parts": [{"kind": "text", "text": text}]}
        body = {"method": "message/send", "params": {"message": message}}
        answer = await scene.org.rest("POST", f"/workspaces/{scene.agent.id}/a2a", body)
        assert answer.status_code == 200, answer.text


async def _record(scene: Scene) -> Message:
    await _messages(scene)
    return delegation.ListActivityRequest(workspace_id=scene.agent.id, limit="500")


async def _search(scene: Scene) -> Message:
    await _messages(scene)
    return delegation.SearchSessionRequest(workspace_id=scene.agent.id, limit=200)


async def _inbox(scene: Scene) -> Message:
    # An item carries a body of up to 256 KiB, and its text beside it.
    await _messages(scene, size=255 * KIB, count=9)
    return delegation.PullInboxRequest(workspace_id=scene.agent.id, limit=100)


async def _files(scene: Scene) -> Message:
    await scene.database.execute(
        """
        INSERT INTO pending_uploads (file_id, workspace_id, organization_id, filename, mimetype,
                                     size_bytes, sha256, storage, position, created_at)
        SELECT gen_random_uuid(), $1, $2, repeat('f', 100), repeat('m', 1024), 1, sha256(''),
               'postgres', n % 3, now() - make_interval(secs => n % 5)
        FROM generate_series(1, 4000) n
        """,
        scene.agent.id,
        scene.org.id,
    )
    return upload.ListPendingUploadsRequest(workspace_id=scene.agent.id, limit=1000)


async def _grants(scene: Scene) -> Message:
    await scene.database.execute(
        """
        INSERT INTO memory_grants (organization_id, namespace, workspace_id, can_write, granted_by)
        SELECT $1, 'custom:' || lpad(n::text, 249, 'n'), $2, true, repeat('g', 300)
        FROM generate_series(1, 1100) n
        """,
        scene.org.id,
        scene.agent.id,
    )
    return admin.ListMemoryGrantsRequest(limit=1000)


async def _operations(scene: Scene) -> Message:
    await scene.database.execute(
        """
        INSERT INTO workspace_operations (id, workspace_id, organization_id, kind, source, state,
                                          resource_id, reason, message, created_at, ended_at)
        SELECT gen_random_uuid(), $1, $2, 'start', repeat('s', 20), 'failed', repeat('i', 64),
               'exited', repeat('m', 2048), now() - make_interval(secs => n % 7), now()
        FROM generate_series(1, 250) n
        """,
        scene.agent.id,
        scene.org.id,
    )
    return workspace.ListOperationsRequest(workspace_id=scene.agent.id, limit=200)


async def _measurements(scene: Scene) -> Message:
    """Of workspaces on a backend that the server does not open: each says so."""
    await scene.database.execute(
        """
        INSERT INTO workspaces (id, organization_id, name, role, tier, status, runtime, backend)
        SELECT gen_random_uuid(), $1, repeat(chr(8364), 80) || n, '', 3, 'online', 'langgraph',
               'docker'
        FROM generate_series(1, 210) n
        """,
        scene.org.id,
    )
    return workspace.ListWorkspaceStatsRequest(limit=100)


async def _approvals(scene: Scene) -> None:
    await scene.database.execute(
        """
        INSERT INTO approval_requests (id, organization_id, workspace_id, action, reason, context,
                                       expires_at)
        SELECT gen_random_uuid(), $1, $2, repeat('a', 1000), repeat(chr(8364), 2730), $3::jsonb,
               now() + interval '1 day'
        FROM generate_series(1, 300)
        """,
        scene.org.id,
        scene.agent.id,
        json.dumps([1] * 5_000),
    )


async def _own_approvals(scene: Scene) -> Message:
    await _approvals(scene)
    return approval.ListApprovalsRequest(workspace_id=scene.agent.id, limit=500)


async def _pending_approvals(scene: Scene) -> Message:
    await _approvals(scene)
    return approval.ListPendingApprovalsRequest(limit=500)


_SCHEDULES = """
    INSERT INTO workspace_schedules (id, organization_id, workspace_id, name, cron_expr, timezone,
                                     prompt, enabled, last_error)
    SELECT gen_random_uuid(), $1, $2, repeat('n', 250) || n, repeat('0,', 120) || '0 * * * *',
           'America/Argentina/ComodRivadavia', repeat(chr(8364), $4), false, repeat('e', 4096)
    FROM generate_series(1, $3::int) n
"""


async def _schedules(scene: Scene) -> Message:
    await scene.database.execute(_SCHEDULES, scene.org.id, scene.agent.id, 100, 65_536 // 3)
    return schedule.ListSchedulesRequest(workspace_id=scene.agent.id, limit=500)


async def _health_of_schedules(scene: Scene) -> Message:
    await scene.database.execute(_SCHEDULES, scene.org.id, scene.agent.id, 600, 1)
    return schedule.ListScheduleHealthRequest(limit=500)


async def _health_of_own_schedules(scene: Scene) -> Message:
    await _health_of_schedules(scene)
    return schedule.GetScheduleHealthRequest(
        workspace_id=scene.agent.id, caller_id=scene.agent.id, limit=500
    )


async def _schedule_runs(scene: Scene) -> Message:
    await scene.database.execute(_SCHEDULES, scene.org.id, scene.agent.id, 1, 1)
    of = await scene.database.fetchval(
        "SELECT id FROM workspace_schedules WHERE workspace_id = $1", scene.agent.id
    )
    await scene.database.execute(
        """
        INSERT INTO schedule_runs (id, schedule_id, organization_id, workspace_id, trigger,
                                   scheduled_for, state, error, fired_at, ended_at)
        SELECT gen_random_uuid(), $1, $2, $3, 'cron', now() - make_interval(mins => n), 'error',
               repeat(chr(8364), 1365), now(), now()
        FROM generate_series(1, 200) n
        """,
        of,
        scene.org.id,
        scene.agent.id,
    )
    return schedule.ListScheduleRunsRequest(
        workspace_id=scene.agent.id, schedule_id=str(of), limit=150
    )


async def _quarantines(scene: Scene) -> Message:
    await scene.database.execute(
        """
        INSERT INTO memory_quarantine (organization_id, author_id, created_by, reason, created_at)
        SELECT $1, gen_random_uuid(), repeat('c', 300), repeat('r', 1000),
               now() - make_interval(secs => n % 7)
        FROM generate_series(1, 1100) n
        """,
        scene.org.id,
    )
    return admin.ListAuthorQuarantinesRequest(limit=1000)


LISTINGS = {
    "WorkspaceService/ListWorkspaces": Listing(_workspaces, "id", "org", 41),
    "WorkspaceService/ListPeers": Listing(_peers, "id", "agent", 40),
    "WorkspaceService/ListTokens": Listing(_tokens, "id", "agent", 211),
    "AdminService/ListOrganizations": Listing(_organizations, "id", "operator", 0),
    "AdminService/ListOrgTokens": Listing(_org_tokens, "id", "org", 510),
    "AdminService/ListDelegations": Listing(_ledger, "delegation_id", "org", 1100),
    "AdminService/ListDeadLetters": Listing(_dead_letters, "seq", "org", 100),
    "AdminService/ListAuditLog": Listing(_audit_log, "id", "org", 510),
    "AdminService/ListEvents": Listing(_events, "id", "org", 41),
    "AdminService/ListMemoryGrants": Listing(_grants, "namespace", "org", 1100),
    "WorkspaceService/ListApprovals": Listing(_own_approvals, "id", "agent", 300),
    "WorkspaceService/ListPendingApprovals": Listing(_pending_approvals, "id", "org", 300),
    "WorkspaceService/ListSchedules": Listing(_schedules, "id", "agent", 100),
    "WorkspaceService/ListScheduleRuns": Listing(_schedule_runs, "delegation_id", "agent", 200),
    "WorkspaceService/GetScheduleHealth": Listing(
        _health_of_own_schedules, "schedule_id", "agent", 600
    ),
    "WorkspaceService/ListScheduleHealth": Listing(_health_of_schedules, "schedule_id", "org", 600),
    "WorkspaceService/ListOperations": Listing(_operations, "id", "org", 250),
    "WorkspaceService/ListWorkspaceStats": Listing(_measurements, "workspace_id", "org", 210),
    "AdminService/ListAuthorQuarantines": Listing(_quarantines, "workspace_id", "org", 1100),
    "DelegationService/ListDelegations": Listing(_own_delegations, "delegation_id", "agent", 1100),
    "DelegationService/ListActivity": Listing(_record, "id", "agent", 6),
    "DelegationService/SearchSession": Listing(_search, "id", "agent", 6),
    "DelegationService/PullInbox": Listing(_inbox, "seq", "agent", 9),
    "UploadService/ListPendingUploads": Listing(_files, "file_id", "agent", 4000),
}
