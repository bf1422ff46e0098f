"""Rows of what imports have created, and of memories that are still to be stored."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.directory import InitialMemory


class ImportedRow(NamedTuple):
    """The stored facts of a workspace that an import has created.

    Args:
        parts: a fingerprint of each part of what the template said then.
        memories: those that are still to be stored.
    """

    parts: dict[str, str]
    memories: tuple[InitialMemory, ...]


async def insert(
    conn: Connection,
    workspace_id: UUID,
    template: str,
    parts: Mapping[str, str],
    memories: Sequence[InitialMemory],
) -> None:
    """Store a workspace's template and fingerprints, in the transaction of its creation."""
    await conn.execute(
        """
        INSERT INTO imported_workspaces (workspace_id, template, parts, memories)
        VALUES ($1, $2, $3, $4)
        """,
        workspace_id,
        template,
        json.dumps(parts),
        json.dumps([list(each) for each in memories]) if memories else None,
    )


async def get(pool: Pool, workspace_id: UUID) -> ImportedRow | None:
    """What is known of a workspace; None where no import has created it."""
    row = await pool.fetchrow(
        "SELECT parts, memories FROM imported_workspaces WHERE workspace_id = $1", workspace_id
    )
    if row is None:
        return None
    waiting = json.loads(row["memories"] or "[]")
    return ImportedRow(json.loads(row["parts"]), tuple(InitialMemory(*each) for each in waiting))


async def memories_stored(pool: Pool, workspace_id: UUID) -> None:
    """All memories of a workspace are stored."""
    await pool.execute(
        "UPDATE imported_workspaces SET memories = NULL WHERE workspace_id = $1", workspace_id
    )


async def forget(conn: Connection, workspace_ids: Collection[UUID]) -> None:
    """Delete what is known of these workspaces."""
    await conn.execute(
        "DELETE FROM imported_workspaces WHERE workspace_id = ANY ($1)", workspace_ids
    )
