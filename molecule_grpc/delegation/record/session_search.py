"""Searches a workspace's record and readable memories at once, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Protocol, TypeAlias, cast
from uuid import UUID

from molecule_grpc.delegation.record.activity import ActivityRecord
from molecule_grpc.delegation.record.store.queries import ActivityRow
from molecule_grpc.kernel.errors import Exhausted, NotFound
from molecule_grpc.kernel.page import Page
from molecule_grpc.kernel.page_tokens import PageTokens
from molecule_grpc.kernel.text import clean

_LISTING = "session"
_LAST_ID = UUID(int=2**128 - 1)


class SessionMemory(Protocol):
    """A memory that the workspace can read, with the text as shown to this workspace."""

    @property
    def id(self) -> UUID: ...
    @property
    def author_id(self) -> UUID | None: ...
    @property
    def namespace(self) -> str: ...
    @property
    def content(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def created_at(self) -> datetime: ...


class SessionMemories(Protocol):
    """Finds memories by a part of their text."""

    async def find(
        self,
        workspace_id: UUID,
        text: str,
        *,
        before: tuple[datetime, UUID] | None,
        limit: int,
    ) -> tuple[Sequence[SessionMemory], bool]:
        """Memories that contain a text, newest first, and whether there are more.

        Raises:
            TimeoutError: the search took too long.
            NotFound: the workspace is removed.
        """
        ...


Hit: TypeAlias = ActivityRow | SessionMemory


class _Place(NamedTuple):
    """The last hit of a page. At one moment rows of the record come before memories.

    Args:
        record_seq: number of a row; 0 for a memory.
        memory_id: id of a memory; the highest one for a row.
    """

    created_at: datetime
    record_seq: int
    memory_id: UUID


class SessionSearch:
    """Merges the two lists; a page token names a place in both."""

    def __init__(
        self, activity: ActivityRecord, memories: SessionMemories, page_tokens: PageTokens
    ) -> None:
        self._activity = activity
        self._memories = memories
        self._page_tokens = page_tokens

    async def find(
        self, workspace_id: UUID, text: str, *, limit: int, page_token: str = ""
    ) -> Page[Hit]:
        """What contains a text, newest first.

        Args:
            limit: most hits of the page.
            page_token: from the page before; empty for the first page.

        Raises:
            Invalid: the page token is not one of ours.
            Exhausted: the search took too long, or too many others of its organisation wait.
        """
        place = self._place(page_token)
        rows = await self._activity.search(
            workspace_id,
            text,
            limit=limit,
            before=None if place is None else (place.created_at, place.record_seq),
        )
        try:
            memories, more = await self._memories.find(
                workspace_id,
                clean(text),
                before=None if place is None else (place.created_at, place.memory_id),
                limit=limit,
            )
        except TimeoutError as error:
            raise Exhausted("the search took too long") from error
        except NotFound:  # the record of a removed workspace can still be read
            memories, more = [], False
        return merged(rows, Page(list(memories), more), limit)

    def token_after(self, hit: Hit) -> str:
        """The token of the page that begins behind a hit."""
        if isinstance(hit, ActivityRow):
            return self._page_tokens.make(_LISTING, hit.created_at, hit.record_seq, _LAST_ID)
        return self._page_tokens.make(_LISTING, hit.created_at, 0, hit.id)

    def _place(self, page_token: str) -> _Place | None:
        parts = self._page_tokens.read(_LISTING, page_token, datetime, int, UUID)
        return None if parts is None else _Place(*cast("tuple[datetime, int, UUID]", tuple(parts)))


def merged(rows: Page[ActivityRow], memories: Page[SessionMemory], limit: int) -> Page[Hit]:
    """The newest hits of both lists. Where one list goes on elsewhere, the page ends with it."""
    hits: list[Hit] = []
    old, new = list(reversed(memories.rows)), list(reversed(rows.rows))
    while (old or new) and len(hits) < limit:
        if (not new and rows.more) or (not old and memories.more):
            break
        remembered = not new or (old and old[-1].created_at > new[-1].created_at)
        hits.append(old.pop() if remembered else new.pop())
    return Page(hits, more=bool(old or new or rows.more or memories.more))
