"""The filters of a query that leave a given memory out of a search, whatever its score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from molecule_grpc.db.pool import Connection
from molecule_grpc.memory.search.store.arguments import Arguments
from molecule_grpc.memory.search_values import Query
from molecule_grpc.memory.store.visible import replaced, visible
from molecule_grpc.memory.values import Access

_NAMES: Final = (
    "namespace",
    "kind",
    "tag",
    "entity",
    "author",
    "time",
    "validity",
    "superseded",
    "label",
    "delegation",
    "file",
)


async def exclusions(
    connection: Connection,
    access: Access,
    namespaces: Sequence[str],
    query: Query,
    memory_id: UUID,
) -> list[str] | None:
    """The filters that leave the memory out; None if the reader cannot read the memory.

    Args:
        namespaces: those that are searched.
    """
    arguments = Arguments()
    tests = _tests(arguments, namespaces, query)
    row = await connection.fetchrow(
        f"""
        SELECT {", ".join(f"({test})" for test in tests)} FROM memories m
        WHERE m.id = {arguments.add(memory_id, "uuid")}
          AND (m.organization_id = {arguments.add(access.organization_id, "uuid")}) IS TRUE
          AND m.namespace = ANY({arguments.add(access.readable, "text[]")}) AND {visible("m")}
        """,
        *arguments.values,
    )
    if row is None:
        return None
    return [name for name, left_out in zip(_NAMES, row.values(), strict=True) if left_out]


def _tests(arguments: Arguments, namespaces: Sequence[str], query: Query) -> Sequence[str]:
    """SQL for each of `_NAMES`, in their order: whether the filter leaves `m` out."""

    def unless(value: object, kind: str, test: str) -> str:
        """SQL that is false unless the filter is given and the test fails."""
        return f"NOT ({test.format(arguments.add(value, kind))})" if value else "false"

    then = "now()" if query.as_of is None else arguments.add(query.as_of, "timestamptz")
    superseded = (
        replaced("m")
        if query.as_of is None
        else f"coalesce(m.superseded_at <= {then}, false) AND {replaced('m')}"
    )
    known = (
        "false"
        if query.as_of is None
        else f"""NOT (m.known_from <= {then} OR EXISTS (
        SELECT FROM memory_versions v
        WHERE v.organization_id = m.organization_id AND v.memory_id = m.id
          AND v.known_from <= {then} AND v.known_to > {then}))"""
    )
    author = (
        "m.author_id"
        if query.as_of is None
        else f"""CASE WHEN m.known_from <= {then} THEN m.author_id ELSE (
            SELECT v.author_id FROM memory_versions v
            WHERE v.organization_id = m.organization_id AND v.memory_id = m.id
              AND v.known_from <= {then} AND v.known_to > {then}) END"""
    )
    after = unless(query.created_after, "timestamptz", "m.created_at >= {}")
    before = unless(query.created_before, "timestamptz", "m.created_at < {}")
    return (
        f"NOT m.namespace = ANY({arguments.add(list(namespaces), 'text[]')})",
        unless(list(query.kinds), "text[]", "m.kind = ANY({})"),
        unless(list(query.tags), "text[]", "m.tags @> {}"),
        unless(list(query.entities), "text[]", "m.entities @> {}"),
        unless(query.author_id, "uuid", f"{author} IS NOT DISTINCT FROM {{}}"),
        f"{after} OR {before} OR {known}",
        f"NOT (m.valid_from <= {then} AND (m.valid_to IS NULL OR m.valid_to > {then}))",
        superseded,
        unless(query.label, "text", "m.label = {}"),
        unless(query.delegation_id, "text", "m.delegation_id IS NOT DISTINCT FROM {}"),
        unless(query.file_id, "uuid", "m.file_id IS NOT DISTINCT FROM {}"),
    )
