"""Opens the slice for one worker: record and inbox, then the ledger, then the way out."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from molecule_grpc.core import Core, Slice
from molecule_grpc.delegation.conversion.inbox import AnswerHeartbeat
from molecule_grpc.delegation.inbox.dead_letters import DeadLetters
from molecule_grpc.delegation.inbox.inbox import Inbox
from molecule_grpc.delegation.inbox.retention import purge
from molecule_grpc.delegation.inbox.wiring import (
    InboxUseCases,
    RecordAndInbox,
    inbox_use_cases,
    open_record_and_inbox,
)
from molecule_grpc.delegation.ledger.undelivered import Undelivered
from molecule_grpc.delegation.ledger.wiring import Ledger, open_ledger
from molecule_grpc.delegation.outbound.due import DueWorkspaces
from molecule_grpc.delegation.outbound.store import targets, upkeep
from molecule_grpc.delegation.outbound.wiring import Outbound, open_outbound
from molecule_grpc.delegation.ports import Mcp, Workspaces
from molecule_grpc.delegation.record.activity import ActivityRecord
from molecule_grpc.delegation.record.notices import AnnounceFiles, file_announcer
from molecule_grpc.delegation.record.quota_uses import quota_uses
from molecule_grpc.delegation.record.session_search import SessionMemories, SessionSearch
from molecule_grpc.delegation.service import DelegationService, handlers
from molecule_grpc.directory import Heartbeat, HeartbeatResult, OnTokens, no_tokens
from molecule_grpc.events.service import EventsService
from molecule_grpc.kernel.page_tokens import PageTokens


class LeaveMessage(Protocol):
    """Leaves a text of the platform for an agent; a repeat of a message id stores nothing."""

    async def __call__(self, workspace_id: UUID, text: str, message_id: str = "") -> None:
        """See `Messages.leave`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegationSlice:
    """What the worker, the faces and other slices need of this one.

    Args:
        floors: the batched statements of record and inbox.
        announce_files: puts notices of files into an inbox, in the caller's transaction.
        leave_message: leaves a text of the platform for an agent.
        last_messages: when workspaces had their last task or message.
    """

    floors: RecordAndInbox
    activity: ActivityRecord
    inboxes: InboxUseCases
    ledger: Ledger
    outbound: Outbound
    dead_letters: DeadLetters
    announce_files: AnnounceFiles
    leave_message: LeaveMessage
    last_messages: Callable[[Sequence[UUID]], Awaitable[list[tuple[UUID, datetime]]]]
    page_tokens: PageTokens

    @property
    def inbox(self) -> Inbox:
        """Pulling, acks and nacks."""
        return self.inboxes.inbox

    def served(
        self,
        events: EventsService,
        mcp: Mcp,
        answer_heartbeat: AnswerHeartbeat,
        memories: SessionMemories,
    ) -> Slice:
        """The slice with its handlers.

        Args:
            events: serves the feed, whose RPCs belong to this service.
            mcp: the face whose RPCs belong to this service.
            answer_heartbeat: answers the heartbeats that come on inbox streams.
            memories: what a search through a session finds beside the record.
        """
        service = DelegationService(
            ledger=self.ledger,
            outbound=self.outbound,
            activity=self.activity,
            inbox=self.inbox,
            inbox_streams=self.inboxes.streams,
            answer_heartbeat=answer_heartbeat,
            events=events,
            mcp=mcp,
            session=SessionSearch(self.activity, memories, self.page_tokens),
        )
        return Slice(
            handlers=[handlers(service)],
            tasks=[*self.inboxes.tasks, *self.ledger.tasks, *self.outbound.tasks],
            loops={"deliveries": self.outbound.deliveries.run},
        )


@contextlib.asynccontextmanager
async def open_delegation(
    core: Core, workspaces: Workspaces, on_tokens: OnTokens = no_tokens
) -> AsyncIterator[DelegationSlice]:
    """The slice, until the block ends: then what was accepted is flushed.

    Args:
        on_tokens: called with the tokens that an agent's answer tells of.
    """
    due_workspaces = DueWorkspaces()
    async with contextlib.AsyncExitStack() as stack:
        floors = await stack.enter_async_context(open_record_and_inbox(core))
        ledger = await stack.enter_async_context(
            open_ledger(
                core,
                floors.reads,
                workspaces.directory,
                on_queued=due_workspaces.add,
                containers=workspaces.containers,
            )
        )
        undelivered = Undelivered(ledger.moves, unread_days=core.settings.retention.inbox_unread)
        inboxes = inbox_use_cases(
            core,
            floors,
            touch_present=workspaces.touch_present,
            on_poisoned=undelivered.poisoned,
            on_expired=undelivered.expired,
        )
        outbound = await stack.enter_async_context(
            open_outbound(
                core,
                ledger,
                floors.records,
                workspaces.directory,
                due_workspaces,
                tasks_changed=workspaces.tasks_changed,
                containers=workspaces.containers,
                on_tokens=on_tokens,
            )
        )
        _subscribe(core, workspaces, ledger, due_workspaces)
        yield DelegationSlice(
            floors=floors,
            activity=ActivityRecord(
                core.pool,
                floors.records,
                workspaces.directory,
                core.page_tokens,
                core.budgets.searches,
                search_seconds=core.settings.budgets.search_seconds,
            ),
            inboxes=inboxes,
            ledger=ledger,
            outbound=outbound,
            dead_letters=DeadLetters(core.pool, core.wakeups),
            announce_files=file_announcer(core.quotas),
            leave_message=outbound.messages.leave,
            last_messages=functools.partial(targets.last_messages, core.pool),
            page_tokens=core.page_tokens,
        )


def _subscribe(
    core: Core, workspaces: Workspaces, ledger: Ledger, due_workspaces: DueWorkspaces
) -> None:
    """Follow what happens to workspaces."""

    def agents_have_room(done: Sequence[tuple[Heartbeat, HeartbeatResult]]) -> None:
        due_workspaces.agents_have_room(heartbeat.workspace_id for heartbeat, _ in done)

    def end_streams(removed: Iterable[UUID]) -> None:
        core.wakeups.wake(removed)

    workspaces.on_heartbeats(agents_have_room)
    workspaces.on_registered(due_workspaces.add)
    workspaces.on_active_delegations(ledger.moves.on_heartbeat)
    # In the order of their locks: messages of the queue, heads, items, rows of the record.
    workspaces.on_purge(upkeep.delete_all)
    workspaces.on_purge(purge)
    workspaces.on_removed(end_streams)
    workspaces.on_uses(functools.partial(quota_uses, core.pool, core.quotas))
