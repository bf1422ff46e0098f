"""Moves rows of an old installation into a store of memories, and shows that they are there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.memory.legacy.placing import Placed, Skipped, placed
from molecule_grpc.memory.legacy.store import agent_memories as store
from molecule_grpc.memory.legacy.store.agent_memories import FIRST, Cursor, LegacyRow
from molecule_grpc.memory.legacy.targets import Holdings, Target, TargetError

MOST_ROWS: Final = 1_000_000
SAMPLE: Final = 50
_AT_ONCE: Final = 8
_PROGRESS_ROWS: Final = 1_000
_EXCERPT_CHARS: Final = 80

Say = Callable[[str], None]


class SourceError(Exception):
    """The old database has nothing that could be moved."""


@dataclass(slots=True)
class Copied:
    """What became of the rows. After `cursor` a next run may go on."""

    scanned: int = 0
    copied: int = 0
    skipped: int = 0
    errors: int = 0
    cursor: Cursor = FIRST

    def __str__(self) -> str:
        return (
            f"scanned={self.scanned} copied={self.copied} skipped={self.skipped}"
            f" errors={self.errors} cursor={self.cursor}"
        )


@dataclass(slots=True)
class Verified:
    """What a comparison found."""

    workspaces: int = 0
    compared: int = 0
    skipped: int = 0
    mismatches: int = 0
    errors: int = 0

    def __str__(self) -> str:
        return (
            f"workspaces={self.workspaces} compared={self.compared} skipped={self.skipped}"
            f" mismatches={self.mismatches} errors={self.errors}"
        )


class Source:
    """The old table. Rows are only read.

    Args:
        pool: of the old database.
        say: takes a line for the operator.
    """

    def __init__(self, pool: Pool, tables: store.SourceTables, say: Say) -> None:
        self._pool = pool
        self._tables = tables
        self._say = say

    @classmethod
    async def open(cls, pool: Pool, say: Say) -> Source:
        """Raises `SourceError`: `agent_memories` is missing, or is a view and no table."""
        tables = await store.tables(pool)
        if not tables.present:
            raise SourceError("the database has no table agent_memories: there is nothing to move")
        if not tables.is_table:
            raise SourceError(
                "agent_memories is no table: a view may show the store that rows would move into"
            )
        return cls(pool, tables, say)

    async def copy(
        self,
        target: Target | None,
        *,
        after: Cursor = FIRST,
        limit: int = MOST_ROWS,
        workspace_id: UUID | None = None,
    ) -> Copied:
        """Store rows, oldest first, eight at once. A repeat changes nothing.

        Args:
            target: None to count what would be stored, and ask nobody.
            after: go on behind this row.
            limit: most rows.
            workspace_id: only rows of this workspace.

        Raises:
            TargetAway: the target fails; rows up to the cursor that was said last are stored.
        """
        done = Copied(cursor=after)
        turns = asyncio.Semaphore(_AT_ONCE)

        async def put(each: Placed) -> None:
            async with turns:
                try:
                    if target is not None:
                        await target.put(each)
                except TargetError as error:
                    done.errors += 1
                    self._say(f"[error] {each.row.id}: {error}")
                else:
                    done.copied += 1

        while done.scanned < limit:
            most = min(store.PAGE, limit - done.scanned)
            rows = await store.page(
                self._pool, self._tables, done.cursor, workspace_id=workspace_id, limit=most
            )
            if not rows:
                break
            found, skipped = await self._placed(rows)
            done.skipped += skipped
            outcomes = await asyncio.gather(*map(put, found), return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    self._say(f"[stop] {done}")
                    raise outcome
            before = done.scanned
            done.scanned += len(rows)
            done.cursor = Cursor(rows[-1].created_at, rows[-1].id)
            if done.scanned // _PROGRESS_ROWS > before // _PROGRESS_ROWS:
                self._say(f"[progress] {done}")
        return done

    async def verify(
        self, target: Target, *, sample: int = SAMPLE, workspace_id: UUID | None = None
    ) -> Verified:
        """Look in the target for every row of some workspaces. The target may have more.

        Args:
            sample: how many workspaces, picked at random.
            workspace_id: this one instead.

        Raises:
            TargetAway: the target fails.
        """
        done = Verified()
        ids = [workspace_id] if workspace_id else await store.sample(self._pool, sample)
        for each in ids:
            await self._compare(target, each, done)
            done.workspaces += 1
        return done

    async def _compare(self, target: Target, workspace_id: UUID, done: Verified) -> None:
        held: dict[str, Holdings] = {}
        cursor = FIRST
        while rows := await store.page(self._pool, self._tables, cursor, workspace_id=workspace_id):
            cursor = Cursor(rows[-1].created_at, rows[-1].id)
            found, skipped = await self._placed(rows)
            done.skipped += skipped
            for each in found:
                holdings = held.setdefault(each.namespace, target.holdings(each))
                try:
                    missing = not await holdings.take(each.content)
                except TargetError as error:
                    done.errors += 1
                    self._say(f"[error] {each.row.id}: {error}")
                    continue
                done.compared += 1
                if missing:
                    done.mismatches += 1
                    excerpt = " ".join(each.content[:_EXCERPT_CHARS].split())
                    self._say(f"[missing] {each.row.id} in {each.namespace}: {excerpt}")

    async def _placed(self, rows: list[LegacyRow]) -> tuple[list[Placed], int]:
        """The rows that can be stored, and how many cannot."""
        ids = list({row.workspace_id for row in rows})
        owners = await store.owners(self._pool, self._tables, ids)
        found, skipped = [], 0
        for row in rows:
            try:
                each = placed(row, owners.get(row.workspace_id))
            except Skipped as reason:
                skipped += 1
                self._say(f"[skip] {row.id}: {reason}")
                continue
            if each.note:
                self._say(f"[note] {row.id}: {each.note}")
            found.append(each)
        return found, skipped
