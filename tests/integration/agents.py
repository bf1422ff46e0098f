"""The delegation slice on a real database without a host, and the workspaces that it serves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
from google.api import httpbody_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from molecule_grpc.auth.authenticator import Authenticator
from molecule_grpc.auth.principal import OPERATOR, Principal, Role
from molecule_grpc.budgets import Budgets
from molecule_grpc.core import Core
from molecule_grpc.db.disk import DiskSpace
from molecule_grpc.db.health import DatabaseHealth
from molecule_grpc.db.listener import Listener
from molecule_grpc.db.pool import Pool, Writer
from molecule_grpc.db.wakeups import CHANNEL, Wakeups
from molecule_grpc.delegation.conversion import outbound as convert_outbound
from molecule_grpc.delegation.inbox.reads import InboxReads
from molecule_grpc.delegation.inbox.wiring import open_record_and_inbox
from molecule_grpc.delegation.ledger.handover import Handover
from molecule_grpc.delegation.ledger.moves import MoveResult
from molecule_grpc.delegation.ledger.rules import Status
from molecule_grpc.delegation.ledger.store.accept import DelegationDraft
from molecule_grpc.delegation.ledger.wiring import Ledger, open_ledger
from molecule_grpc.delegation.ledger.writes import LedgerWrites
from molecule_grpc.delegation.outbound.due import DueWorkspaces
from molecule_grpc.delegation.outbound.wiring import Outbound, open_outbound
from molecule_grpc.delegation.record.activity import ActivityRecord
from molecule_grpc.delegation.record.store import activity
from molecule_grpc.delegation.record.store.activity import EntryDraft
from molecule_grpc.delegation.record.store.entries import Entry
from molecule_grpc.delegation.record.writes import RecordWrites
from molecule_grpc.directory import DEFAULT_ORGANIZATION
from molecule_grpc.egress import EgressRules
from molecule_grpc.events.readers import EventReaders
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.kernel.page_tokens import PageTokens
from molecule_grpc.quotas import Quotas
from molecule_grpc.server.audit import AuditLog
from molecule_grpc.server.call import Call
from molecule_grpc.server.streams import OpenStreams, StreamGuards
from molecule_grpc.server.unread import Unread
from molecule_grpc.settings.settings import Settings
from molecule_grpc.workspace.tree.directory import Directory
from molecule_grpc.workspace.tree.pairs import Pairs
from tests.settings import egress_of, settings_of
from tests.waiting import PATIENCE

ORGANIZATION = DEFAULT_ORGANIZATION


@dataclass(slots=True)
class Slice:
    """One worker's worth of the slice."""

    core: Core
    pool: Pool
    records: RecordWrites
    reads: InboxReads
    wakeups: Wakeups
    ledger: Ledger
    activity: ActivityRecord
    outbound: Outbound
    due_workspaces: DueWorkspaces

    @property
    def writes(self) -> LedgerWrites:
        """The ledger's writers."""
        return self.ledger.writes

    async def delegate(
        self, caller: UUID, callee: UUID, task: str = "task", key: str = "", **options: Any
    ) -> str:
        """Hand a task over; its id."""
        handover = Handover(caller, callee, task, key, **options)
        done = await self.ledger.handovers.delegate(handover, authorization=None)
        return done.delegation_id

    async def record(self, caller: UUID, callee: UUID, name: str, task: str = "task") -> None:
        """Enter a task into the ledger."""
        await self.ledger.handovers.record(caller, callee, task, name)

    async def update(
        self, actor: UUID, name: str, status: str, text: str = "", error: str = ""
    ) -> MoveResult:
        """Report on a delegation."""
        return await self.ledger.moves.update(actor, name, Status(status), text=text, error=error)

    async def beat(self, actor: UUID, name: str) -> MoveResult:
        """Show a sign of work."""
        return await self.ledger.moves.heartbeat(actor, name)

    async def send(self, request: pb.SendMessageRequest, call: Call) -> httpbody_pb2.HttpBody:
        """Send a message as the RPC does."""
        message = convert_outbound.message_of(request, call)
        answer = await self.outbound.messages.send(message, call.principal)
        return convert_outbound.http_body(answer, call)

    async def row(self, name: str) -> asyncpg.Record:
        """A ledger row, every column."""
        found = await self.pool.fetchrow("SELECT * FROM delegations WHERE delegation_id = $1", name)
        assert found is not None, name
        return found

    async def items(self, workspace_id: UUID, method: str = "%") -> list[asyncpg.Record]:
        """Inbox items in order, with what their activity row says."""
        return await self.pool.fetch(
            """
            SELECT x.*, a.status AS activity_status, a.activity_type, a.error_detail AS detail,
                   a.request_body, a.response_body, a.source_id AS record_source, a.target_id
            FROM inbox_items x JOIN activity_logs a ON a.id = x.activity_id
            WHERE x.workspace_id = $1 AND x.method LIKE $2 ORDER BY x.seq
            """,
            workspace_id,
            method,
        )

    async def record_of(self, workspace_id: UUID) -> list[asyncpg.Record]:
        """A workspace's activity rows in the order of the record."""
        return await self.pool.fetch(
            "SELECT * FROM activity_logs WHERE workspace_id = $1 ORDER BY record_seq", workspace_id
        )


@contextlib.asynccontextmanager
async def slice_of(dsn: str, pool: Pool, **settings: Any) -> AsyncIterator[Slice]:
    """A worker's slice over this database, that hears of other workers' news."""
    chosen = settings_of(**settings)
    notifier = Writer(dsn)
    wakeups = Wakeups(notifier, f"test-{uuid.uuid4().hex[:6]}")
    listener = Listener(dsn, {CHANNEL: wakeups.hear}, missed=wakeups.wake_everybody)
    running = [asyncio.create_task(wakeups.run()), asyncio.create_task(listener.run())]
    try:
        async with _slice_of(dsn, pool, wakeups, chosen) as opened:
            yield opened
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await notifier.close()


@contextlib.contextmanager
def core_of(dsn: str, pool: Pool, wakeups: Wakeups, chosen: Settings) -> Iterator[Core]:
    """What the slice is built from, over this database."""
    authenticator = Authenticator(pool, chosen.auth, development=chosen.deployment.development)
    streams, budgets = OpenStreams(), Budgets.of(chosen.budgets)
    unread = Unread(budgets.stream_bytes)
    with EventReaders.of(wakeups) as readers:
        yield Core(
            settings=chosen,
            dsn=dsn,
            pool=pool,
            database=DatabaseHealth(dsn),
            disk=DiskSpace(None, 0),
            budgets=budgets,
            quotas=Quotas.of(chosen),
            wakeups=wakeups,
            authenticator=authenticator,
            streams=streams,
            unread=unread,
            guards=StreamGuards(
                authenticator, streams, chosen.inbox, budget=budgets.streams, unread=unread
            ),
            readers=readers,
            page_tokens=PageTokens(b"0" * 32),
            audit=AuditLog(pool, chosen.audit),
            egress=egress_of(EgressRules.of(chosen.deployment, chosen.egress)),
        )


@contextlib.asynccontextmanager
async def _slice_of(
    dsn: str, pool: Pool, wakeups: Wakeups, chosen: Settings
) -> AsyncIterator[Slice]:
    with core_of(dsn, pool, wakeups, chosen) as core:
        async with floors_of(core) as opened:
            yield Slice(*opened)


@contextlib.asynccontextmanager
async def floors_of(core: Core) -> AsyncIterator[tuple[Any, ...]]:
    """The floors of the slice, as a `Slice` takes them."""
    pool = core.pool
    pairs = Pairs(core.dsn)
    directory = Directory(pool, core.page_tokens, pairs)
    due = DueWorkspaces()
    async with pairs, open_record_and_inbox(core) as floors:
        records, reads = floors.records, floors.reads
        async with (
            open_ledger(core, reads, directory, on_queued=due.add) as ledger,
            open_outbound(core, ledger, records, directory, due) as outbound,
        ):
            activity = ActivityRecord(
                pool,
                records,
                directory,
                core.page_tokens,
                core.budgets.searches,
                search_seconds=2,
            )
            yield (
                core, pool, records, reads, core.wakeups, ledger, activity, outbound, due,
            )  # fmt: skip


async def append_on(conn: asyncpg.Connection, *entries: Entry) -> None:
    """Append inside this connection's transaction, as another worker would."""
    await activity.append(
        conn,
        [EntryDraft(entry, exempt=True) for entry in entries],
        max_items=10**9,
        max_bytes=10**12,
    )


async def someone_waits(pool: Pool, count: int = 1) -> None:
    """Return when so many statements of this database wait for a lock."""
    async with asyncio.timeout(PATIENCE):
        while await pool.fetchval(_WAITING) < count:
            await asyncio.sleep(0.01)


_WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


def call_of(workspace_id: UUID | None) -> Call:
    """A call by this workspace; by the operator when None."""
    principal = OPERATOR
    if workspace_id is not None:
        principal = Principal(Role.WORKSPACE, ORGANIZATION, workspace_id)
    return Call(metadata={}, principal=principal)


async def hire(pool: Pool, count: int, **columns: Any) -> list[UUID]:
    """So many workspaces that may all talk to each other, in poll mode."""
    values = {"runtime": "external", "delivery_mode": "poll", "tier": 3, "status": "online"}
    values |= columns
    names = ", ".join(values)
    marks = ", ".join(f"${n}" for n in range(3, len(values) + 3))
    ids = [new_id() for _ in range(count)]
    await pool.executemany(
        f"INSERT INTO workspaces (id, name, organization_id, {names})"
        f" VALUES ($1, $2, '{ORGANIZATION}', {marks})",
        [(one, f"agent {one}", *values.values()) for one in ids],
    )
    return ids


def message(workspace_id: UUID, text: str = "hello", **changes: Any) -> Entry:
    """A message from a human, ready for the inbox of this workspace."""
    body = json.dumps({"params": {"message": {"parts": [{"kind": "text", "text": text}]}}})
    entry = Entry(
        workspace_id=workspace_id,
        activity_id=new_id(),
        activity_type="a2a_receive",
        method="message/send",
        target_id=workspace_id,
        request_body=body,
        message_id=str(uuid.uuid4()),
        bytes=len(body),
    )
    return entry._replace(**changes)


def note(workspace_id: UUID, **changes: Any) -> Entry:
    """A row of the record that is not an inbox item."""
    entry = Entry(
        workspace_id=workspace_id,
        activity_id=new_id(),
        activity_type="agent_log",
        source_id=workspace_id,
        summary="noted",
    )
    return entry._replace(**changes)


def draft(caller: UUID, callee: UUID, **changes: Any) -> DelegationDraft:
    """A delegation to be accepted, with something to hand over."""
    base = DelegationDraft(
        delegation_id=str(new_id()),
        caller_id=caller,
        callee_id=callee,
        organization_id=ORGANIZATION,
        task_preview="task",
        status="queued",
        idempotency_key=None,
        request_hash=b"",
        deadline_seconds=60,
        audit_id=new_id(),
        item_id=new_id(),
        request_body="{}",
        bytes=2,
    )
    return base._replace(**changes)
