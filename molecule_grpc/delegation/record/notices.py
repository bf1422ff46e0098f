"""Notices for an inbox that belong to somebody else's transaction: a file that waits, say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol
from uuid import UUID

from molecule_grpc.db.pool import Connection
from molecule_grpc.delegation.record.rules import PLATFORM
from molecule_grpc.delegation.record.store import activity
from molecule_grpc.delegation.record.store.entries import Entry
from molecule_grpc.kernel.errors import Exhausted
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.settings.settings import Settings

# Pollers look for the type and tell kinds of work by the method.
FILE_TYPE: Final = "a2a_receive"
FILE_METHOD: Final = "chat_upload_receive"


class FileNotice(Protocol):
    """What an inbox says of a file. The body is JSON text."""

    @property
    def workspace_id(self) -> UUID: ...
    @property
    def file_id(self) -> UUID: ...
    @property
    def summary(self) -> str: ...
    @property
    def body(self) -> str: ...


def file_announcer(
    settings: Settings,
) -> Callable[[Connection, Sequence[FileNotice]], Awaitable[None]]:
    """Puts notices of files into the record and inbox of one workspace, in their order."""

    async def announce(conn: Connection, notices: Sequence[FileNotice]) -> None:
        entries = [(_entry(notice), False) for notice in notices]
        limits = {"max_items": settings.inbox.max_items, "max_bytes": settings.inbox.max_bytes}
        done = await activity.append(conn, entries, **limits)
        if not any(one.full for one in done):
            return
        # The cheap check counts items done out of order as undone: count exactly.
        items, size = await activity.undone(conn, notices[0].workspace_id)
        if items >= settings.inbox.max_items or size >= settings.inbox.max_bytes:
            raise Exhausted(
                f"the inbox of the target holds {items} undone items, try again later",
                reason="INBOX_FULL",
                metadata={"items": str(items), "bytes": str(size)},
                retry_after=30,
            )
        await activity.append(conn, [(entry, True) for entry, _ in entries], **limits)

    return announce


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
