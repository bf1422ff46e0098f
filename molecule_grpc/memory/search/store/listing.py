"""Rows without a ranking: the pinned and then the newest ones, or those with a piece of text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection
from molecule_grpc.memory.search.store.arguments import Arguments
from molecule_grpc.memory.search.store.held import held, wanted
from molecule_grpc.memory.values import Query

# Rows, the newest, in which a piece of text is looked for.
_SUBSTRING_ROWS: Final = 20_000


class Listed(NamedTuple):
    """A row's place in the list: pinned, then time and id, all descending."""

    pinned: bool
    created_at: datetime
    id: UUID


async def listing(
    connection: Connection,
    organization_id: UUID,
    namespaces: Sequence[str],
    query: Query,
    *,
    piece: str = "",
    after: Listed | None,
    limit: int,
) -> list[Listed]:
    """The next rows in order.

    Args:
        piece: only rows with this text, whatever its case, among the newest 20,000; empty for all.
    """
    arguments = Arguments()
    rows = held(arguments, organization_id, namespaces, query.as_of)
    place = "true"
    if after is not None:
        place = (
            f"(h.pinned, h.created_at, h.id) < ({arguments.add(after.pinned, 'boolean')},"
            f" {arguments.add(after.created_at, 'timestamptz')}, {arguments.add(after.id, 'uuid')})"
        )
    source, has_piece = "held", "true"
    if piece:
        source = f"(SELECT * FROM held ORDER BY created_at DESC, id DESC LIMIT {_SUBSTRING_ROWS})"
        has_piece = f"h.content ILIKE {arguments.add(f'%{_escaped(piece)}%', 'text')}"
    found = await connection.fetch(
        f"""
        WITH held AS NOT MATERIALIZED ({rows})
        SELECT h.pinned, h.created_at, h.id FROM {source} h
        WHERE {wanted(arguments, query)} AND {has_piece} AND {place}
        ORDER BY h.pinned DESC, h.created_at DESC, h.id DESC
        LIMIT {arguments.add(limit, "integer")}
        """,
        *arguments.values,
    )
    return [Listed(row["pinned"], row["created_at"], row["id"]) for row in found]


def _escaped(piece: str) -> str:
    """The text as a pattern that means this text."""
    return piece.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
