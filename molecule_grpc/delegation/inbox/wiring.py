"""The record and the inbox, put together."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

from molecule_grpc.core import Core
from molecule_grpc.db.sweep import SWEEP_TIMEOUT_SECONDS
from molecule_grpc.delegation.inbox.inbox import Inbox
from molecule_grpc.delegation.inbox.open_inboxes import PRESENCE_SECONDS, OpenInboxes
from molecule_grpc.delegation.inbox.ports import OnExpired, OnPoisoned
from molecule_grpc.delegation.inbox.reads import InboxReads
from molecule_grpc.delegation.inbox.retention import InboxRetention
from molecule_grpc.delegation.inbox.streams import InboxStreams
from molecule_grpc.delegation.record.retention import RecordRetention
from molecule_grpc.delegation.record.writes import RecordWrites
from molecule_grpc.server.tasks import BackgroundTask


@dataclass(frozen=True, slots=True)
class RecordAndInbox:
    """The statements of the two lower floors, batched; the ledger writes and reads through them."""

    records: RecordWrites
    reads: InboxReads


@dataclass(frozen=True, slots=True)
class InboxUseCases:
    """What agents do with an inbox, and the steps that run beside."""

    inbox: Inbox
    streams: InboxStreams
    tasks: list[BackgroundTask]


@contextlib.asynccontextmanager
async def open_record_and_inbox(core: Core) -> AsyncIterator[RecordAndInbox]:
    """Open the writers and readers for as long as calls are served; then they are flushed."""
    dsn, pool, wakeups, settings = core.dsn, core.pool, core.wakeups, core.settings
    linger = settings.process.group_commit_linger_ms / 1000

    def watched() -> bool:
        # Without notifications a worker does not know the readers of other workers.
        return core.readers.present or not settings.process.notify

    async with (
        InboxReads(dsn, pool, wakeups, linger=linger) as reads,
        RecordWrites(
            dsn, pool, wakeups, core.quotas, on_item=reads.on_item, linger=linger, watched=watched
        ) as records,
    ):
        yield RecordAndInbox(records, reads)


def inbox_use_cases(
    core: Core,
    floors: RecordAndInbox,
    *,
    touch_present: Callable[[list[UUID]], Awaitable[None]],
    on_poisoned: OnPoisoned,
    on_expired: OnExpired,
) -> InboxUseCases:
    """The use cases of the inbox.

    Args:
        touch_present: told of workspaces whose streams are open, every 30 s.
        on_poisoned: told of each delegation whose item was set aside.
        on_expired: told of each delegation whose item left unread after 30 days.
    """
    pool, wakeups, settings, reads = core.pool, core.wakeups, core.settings, floors.reads
    open_inboxes = OpenInboxes(
        pool,
        lease_seconds=settings.inbox.lease,
        touch_present=touch_present,
        wake=wakeups.wake_here,
        confirm=reads.confirm,
    )
    inbox = Inbox(pool, reads, wakeups, core.guards, on_poisoned)
    streams = InboxStreams(pool, inbox, reads, open_inboxes, wakeups, core.guards, settings.inbox)
    inbox_retention = InboxRetention(
        pool,
        on_expired,
        done_days=settings.retention.inbox_done,
        unread_days=settings.retention.inbox_unread,
    )
    record_retention = RecordRetention(pool, days=settings.delegation.activity_retention_days)

    async def forget() -> None:
        await inbox_retention.sweep()
        await record_retention.sweep()

    tasks = [
        BackgroundTask("inbox-leases", settings.inbox.lease / 3, open_inboxes.renew),
        BackgroundTask("inbox-safety-check", settings.inbox.safety_check, open_inboxes.check),
        BackgroundTask("inbox-presence", PRESENCE_SECONDS, open_inboxes.present),
        BackgroundTask(
            "retention",
            settings.delegation.activity_cleanup_hours * 3600,
            forget,
            timeout=SWEEP_TIMEOUT_SECONDS,
        ),
    ]
    return InboxUseCases(inbox, streams, tasks)
