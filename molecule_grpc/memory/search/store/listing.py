"""Rows without a ranking: the pinned and then the newest ones, or those with a piece of text."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection
from molecule_grpc.memory.search.plan import Scope
from molecule_grpc.memory.search.store.arguments import Arguments
from molecule_grpc.memory.search.store.held import held, wanted
from molecule_grpc.memory.search_values import Query

# Rows, the newest, in which a piece of text is looked for.
_SUBSTRING_ROWS: Final = 20_000


class Listed(NamedTuple):
    """A row's place in the list: pinned, then time and id, all descending."""

    pinned: bool
    created_at: datetime
    id: UUID


async def listing(
    connection: Connection,
    scope: Scope,
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
    count = arguments.add(limit, "integer")
    has_piece = "true"
    if piece:
        has_piece = f"h.content ILIKE {arguments.add(f'%{_escaped(piece)}%', 'text')}"
    tests = f"{wanted(arguments, query)} AND {has_piece} AND {_behind(arguments, after)}"
    if piece or query.as_of is not None:
        rows = held(arguments, scope, query.as_of)
        newest = f"ORDER BY created_at DESC, id DESC LIMIT {_SUBSTRING_ROWS}" if piece else ""
        source = f"SELECT h.* FROM (SELECT * FROM ({rows}) rows {newest}) h WHERE {tests}"
    else:
        # Each namespace has its pinned and its newest rows in order: only a page of each is read.
        rows = held(arguments, scope, None, namespace="space.name")
        names = arguments.add(list(scope.namespaces), "text[]")
        source = " UNION ALL ".join(
            f"""SELECT part.* FROM unnest({names}) space (name)
            CROSS JOIN LATERAL (
                SELECT h.* FROM ({rows}) h WHERE {kind} AND {tests}
                ORDER BY h.created_at DESC, h.id DESC LIMIT {count}
            ) part"""
            for kind in ("h.pinned", "NOT h.pinned")
        )
    found = await connection.fetch(
        f"""
        SELECT pinned, created_at, id FROM ({source}) parts
        ORDER BY pinned DESC, created_at DESC, id DESC LIMIT {count}
        """,
        *arguments.values,
    )
    return [Listed(row["pinned"], row["created_at"], row["id"]) for row in found]


def _behind(arguments: Arguments, after: Listed | None) -> str:
    """SQL: whether a row comes after a place in the list."""
    if after is None:
        return "true"
    return (
        f"(h.pinned, h.created_at, h.id) < ({arguments.add(after.pinned, 'boolean')},"
        f" {arguments.add(after.created_at, 'timestamptz')}, {arguments.add(after.id, 'uuid')})"
    )


def _escaped(piece: str) -> str:
    """The text as a pattern that means this text."""
    return piece.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
