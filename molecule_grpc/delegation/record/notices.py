"""Notices of files, and rows about memories: they enter the record in the transaction of others."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol
from uuid import UUID

from molecule_grpc.db.pool import Connection
from molecule_grpc.delegation.record.rules import PLATFORM
from molecule_grpc.delegation.record.store import activity
from molecule_grpc.delegation.record.store.activity import EntryDraft
from molecule_grpc.delegation.record.store.entries import Entry
from molecule_grpc.delegation.record.writes import require_room
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.quotas import UNLIMITED, Quotas

# Pollers look for the type and tell kinds of work by the method.
FILE_TYPE: Final = "a2a_receive"
FILE_METHOD: Final = "chat_upload_receive"


class FileNotice(Protocol):
    """A file that waits for a workspace. The body is JSON text."""

    @property
    def workspace_id(self) -> UUID: ...
    @property
    def file_id(self) -> UUID: ...
    @property
    def summary(self) -> str: ...
    @property
    def body(self) -> str: ...


class ActNotice(Protocol):
    """What a workspace did with a memory of many readers. The body is JSON text."""

    @property
    def workspace_id(self) -> UUID: ...
    @property
    def activity_type(self) -> str: ...
    @property
    def summary(self) -> str: ...
    @property
    def body(self) -> str: ...


RecordActs = Callable[[Connection, Sequence[ActNotice]], Awaitable[None]]
AnnounceFiles = Callable[[Connection, Sequence[FileNotice]], Awaitable[None]]


def file_announcer(quotas: Quotas) -> AnnounceFiles:
    """Puts notices of files into the record and inbox of one workspace, in their order.

    The function takes part in the caller's transaction, and raises `Exhausted` INBOX_FULL or
    QUOTA_EXCEEDED.
    """
    append = functools.partial(
        activity.append,
        max_items=quotas.inbox_items.bound,
        max_bytes=quotas.inbox_bytes.bound,
        day_bytes=quotas.record_bytes.bound,
    )

    async def announce(conn: Connection, notices: Sequence[FileNotice]) -> None:
        drafts = [EntryDraft(_entry(notice)) for notice in notices]
        done = await append(conn, drafts)
        for each in done:
            if each.beyond is not None:
                raise quotas.too_much_recorded(each.beyond)
        if any(each.full for each in done):
            await require_room(conn, notices[0].workspace_id, quotas)
            await append(conn, [draft._replace(exempt=True) for draft in drafts])

    return announce


async def record_acts(conn: Connection, notices: Sequence[ActNotice]) -> None:
    """Put rows into the records of workspaces, in the caller's transaction.

    The rows are no inbox items, and an organisation's bytes of the day do not refuse them: what
    they tell of was accepted already.
    """
    drafts = [
        EntryDraft(
            Entry(
                workspace_id=notice.workspace_id,
                activity_id=new_id(),
                activity_type=notice.activity_type,
                source_id=notice.workspace_id,
                summary=notice.summary,
                request_body=notice.body,
            ),
            kept=True,
        )
        for notice in notices
    ]
    await activity.append(
        conn, drafts, max_items=UNLIMITED, max_bytes=UNLIMITED, day_bytes=UNLIMITED
    )


def _entry(notice: FileNotice) -> Entry:
    return Entry(
        workspace_id=notice.workspace_id,
        activity_id=new_id(),
        activity_type=FILE_TYPE,
        method=FILE_METHOD,
        target_id=notice.workspace_id,
        summary=notice.summary,
        request_body=notice.body,
        message_id=f"{PLATFORM}file:{notice.file_id}",
        bytes=len(notice.body.encode()),
    )
