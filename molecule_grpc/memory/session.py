"""What a search through a workspace's session finds among memories."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple, Protocol
from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.kernel.page import MAX_PAGE_BYTES, page_of
from molecule_grpc.memory.ports import Resolving
from molecule_grpc.memory.rendering import render_text
from molecule_grpc.memory.store import session as store


class SessionMemory(NamedTuple):
    """A found memory, its text fit for the workspace that searched."""

    id: UUID
    author_id: UUID | None
    namespace: str
    content: str
    kind: str
    created_at: datetime


class SessionFinding(Protocol):
    """Finds memories by a part of their text; `SessionMemories` says how."""

    async def find(
        self,
        workspace_id: UUID,
        text: str,
        *,
        before: tuple[datetime, UUID] | None,
        limit: int,
    ) -> tuple[list[SessionMemory], bool]: ...


class SessionMemories:
    """Finds memories by a part of their text.

    Args:
        seconds: a search may take; `TimeoutError` after that.
    """

    def __init__(self, pool: Pool, namespaces: Resolving, *, seconds: float) -> None:
        self._pool = pool
        self._namespaces = namespaces
        self._seconds = seconds

    async def find(
        self,
        workspace_id: UUID,
        text: str,
        *,
        before: tuple[datetime, UUID] | None,
        limit: int,
    ) -> tuple[list[SessionMemory], bool]:
        """Memories that a workspace can read and that contain a text, and whether there are more.

        Newest first.

        Args:
            workspace_id: who searches.
            text: literal, in any case; empty for every memory.
            before: only memories behind this time and id.
            limit: most rows of the page, which ends at 3 MiB.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
        """
        access = await self._namespaces.access(workspace_id)
        rows = await store.search(
            self._pool,
            access.organization_id,
            access.readable,
            text,
            before=before,
            limit=limit + 1,
            max_bytes=MAX_PAGE_BYTES,
            seconds=self._seconds,
        )
        page = page_of(rows, limit=limit, size=lambda row: len(row.content.encode()))
        found = [
            SessionMemory(
                row.id,
                row.author_id,
                row.namespace,
                render_text(workspace_id, row.id, row.namespace, row.author_id, row.content),
                row.kind,
                row.created_at,
            )
            for row in page.rows
        ]
        return found, page.more
