"""The slice's use cases as faces call them: rights first, and every text fit for an agent."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from molecule_grpc.kernel.errors import MoleculeError
from molecule_grpc.kernel.slices import in_slices
from molecule_grpc.memory.ports import Changing, Committing, Finding, Reading, Resolving
from molecule_grpc.memory.rendering import escape, shown, shown_version
from molecule_grpc.memory.search_values import Explained, Found, Query
from molecule_grpc.memory.values import (
    Access,
    Change,
    Committed,
    Consolidated,
    Draft,
    Hygiene,
    MemoryRow,
    Updated,
    VersionRow,
)

SUMMARY_DAYS = 30


class Memories:
    """What agents remember. Each method takes the workspace that acts; rights are those of now.

    Args:
        namespaces: derives rights from the tree.
        commits: the only way in.
        changes: updates and forgets.
        reads: by id.
        search: by word and meaning.
    """

    def __init__(
        self,
        namespaces: Resolving,
        commits: Committing,
        changes: Changing,
        reads: Reading,
        search: Finding,
    ) -> None:
        self._namespaces = namespaces
        self._commits = commits
        self._changes = changes
        self._reads = reads
        self._search = search

    async def access(self, workspace_id: UUID) -> Access:
        """What a workspace can read and write, names and descriptions fit for an agent.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
            Conflict: TREE_TOO_DEEP.
        """
        access = await self._namespaces.access(workspace_id)
        entries = [
            each._replace(
                display_name=escape(each.display_name), description=escape(each.description)
            )
            for each in access.namespaces
        ]
        return dataclasses.replace(access, namespaces=tuple(entries))

    async def access_with_languages(self, workspace_id: UUID) -> Access:
        """Like `access`, each namespace with its language; raises as there."""
        return await self._namespaces.with_languages(await self.access(workspace_id))

    async def set_language(self, caller: UUID, namespace: str, language: str) -> int:
        """Set the language of a namespace; how many texts were indexed anew.

        Raises what `languages.set_language` raises.
        """
        return await self._changes.set_language(
            caller, namespace or f"workspace:{caller}", language
        )

    async def commit(self, author: UUID, draft: Draft) -> Committed:
        """Store a memory. Raises what `Commits.commit` raises."""
        return await self._commits.commit(author, draft)

    async def commit_batch(
        self, author: UUID, drafts: Sequence[Draft]
    ) -> list[Committed | MoleculeError]:
        """Store up to 100 memories, each on its own; the error of each that is refused."""
        return await self._commits.commit_batch(author, drafts)

    async def commit_summary(self, author: UUID, draft: Draft) -> Committed:
        """Store a summary, which expires in 30 days unless the draft says when."""
        expires_at = draft.expires_at or datetime.now(UTC) + timedelta(days=SUMMARY_DAYS)
        draft = dataclasses.replace(draft, kind="summary", expires_at=expires_at)
        return await self._commits.commit(author, draft)

    async def search(self, reader: UUID, query: Query, *, rest: bool = False) -> Found:
        """Search what the reader can read now.

        Args:
            reader: the workspace that reads.
            query: the search.
            rest: render texts for clients that know scopes.
        """
        found = await self._search.search(await self._namespaces.access(reader), query)
        hits = await in_slices(
            lambda each: each._replace(row=shown(reader, each.row, rest=rest)), found.hits
        )
        return dataclasses.replace(found, hits=hits)

    async def explain(self, reader: UUID, memory_id: UUID, query: Query) -> Explained:
        """Why a memory is, or is not, a hit. Raises `NotFound` MEMORY_NOT_FOUND."""
        access = await self._namespaces.access(reader)
        return await self._search.explain(access, memory_id, query)

    async def get(self, reader: UUID, memory_id: UUID) -> MemoryRow:
        """One memory. Raises `NotFound` MEMORY_NOT_FOUND."""
        return shown(reader, await self._reads.get(reader, memory_id))

    async def history(self, reader: UUID, memory_id: UUID) -> tuple[list[VersionRow], bool]:
        """The texts of a chain, oldest first, and whether there are more."""
        versions, more = await self._reads.history(reader, memory_id)
        return await in_slices(lambda each: shown_version(reader, each), versions), more

    async def update(self, caller: UUID, memory_id: UUID, change: Change) -> Updated:
        """Change a memory in place. Raises what `Changes.update` raises."""
        return await self._changes.update(caller, memory_id, change)

    async def supersede(self, author: UUID, memory_id: UUID, draft: Draft) -> Committed:
        """Store a memory in the place of another one."""
        return await self._commits.supersede(author, memory_id, draft)

    async def forget(self, caller: UUID, memory_id: UUID, namespace: str = "") -> int:
        """Remove a memory for good; how many rows went. Raises `NotFound` MEMORY_NOT_FOUND."""
        return await self._changes.forget(caller, memory_id, namespace)

    async def consolidate(
        self, author: UUID, memory_ids: Sequence[UUID], draft: Draft, *, dry_run: bool
    ) -> Consolidated:
        """Store one memory in the place of several of one namespace, or none."""
        return await self._commits.consolidate(author, memory_ids, draft, dry_run=dry_run)

    async def undo(self, caller: UUID, memory_id: UUID) -> list[UUID]:
        """Bring back the originals of a consolidated memory, which is forgotten."""
        return await self._commits.undo(caller, memory_id)

    async def hygiene(self, reader: UUID, namespace: str = "") -> Hygiene:
        """What may be mended in a namespace; the reader's own if none is named."""
        found = await self._reads.hygiene(reader, namespace or f"workspace:{reader}")
        findings = [
            dataclasses.replace(each, detail=escape(each.detail)) for each in found.findings
        ]
        return found._replace(findings=findings)
