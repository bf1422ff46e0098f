"""What a search through a workspace's session finds among memories that a plugin keeps."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import structlog

from molecule_grpc.kernel.errors import MoleculeError
from molecule_grpc.kernel.page import page_of
from molecule_grpc.memory.contract.objects import MOST_HITS
from molecule_grpc.memory.memories import Memories
from molecule_grpc.memory.search_values import Query
from molecule_grpc.memory.session import SessionMemory
from molecule_grpc.memory.values import MemoryRow

log = structlog.get_logger(__name__)


class PluginSession:
    """Looks through what the plugin finds for a text: at most 100 memories.

    A plugin that does not answer hides no activity: the search goes on without memories.
    """

    def __init__(self, memories: Memories) -> None:
        self._memories = memories

    async def find(
        self,
        workspace_id: UUID,
        text: str,
        *,
        before: tuple[datetime, UUID] | None,
        limit: int,
    ) -> tuple[list[SessionMemory], bool]:
        """Memories that a workspace can read and that contain a text, newest first.

        Args and errors are those of `SessionMemories.find`.
        """
        access = await self._memories.access(workspace_id)
        try:
            found = await self._memories.search(
                access.workspace_id, Query(text=text, limit=MOST_HITS)
            )
        except MoleculeError as error:
            log.warning("a session was searched without memories", error=error.message)
            return [], False
        rows = [hit.row for hit in found.hits if text.lower() in hit.row.content.lower()]
        rows = [row for row in rows if before is None or _place(row) < before]
        rows.sort(key=_place, reverse=True)
        page = page_of(rows, limit=limit, size=lambda row: len(row.content.encode()))
        return [_seen(row) for row in page.rows], page.more


def _place(row: MemoryRow) -> tuple[datetime, UUID]:
    return row.created_at, row.id


def _seen(row: MemoryRow) -> SessionMemory:
    return SessionMemory(
        row.id, row.author_id, row.namespace, row.content, row.kind, row.created_at
    )
