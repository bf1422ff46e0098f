"""The rows that a search may see: those of its namespaces that hold now, or held at a time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from molecule_grpc.memory.search.plan import Scope
from molecule_grpc.memory.search.store.arguments import Arguments
from molecule_grpc.memory.search_values import Query
from molecule_grpc.memory.store.visible import (
    current,
    current_plainly,
    replaced,
    trusted,
    unexpired,
)

_COLUMNS = """m.id, m.namespace, m.pinned, m.created_at, m.kind, m.tags, m.entities, m.label,
    m.source, m.updated_at, m.expires_at, m.valid_from, m.valid_to, m.superseded_by,
    m.delegation_id, m.file_id, m.metadata, m.embed_state"""
_TEXT = "content, words, word_count, author_id, version, known_from"
_NOW = ", ".join(f"m.{column}" for column in _TEXT.split(", "))
_THEN = ", ".join(f"v.{column}" for column in _TEXT.split(", "))


def held(
    arguments: Arguments,
    scope: Scope,
    as_of: datetime | None,
    ids: Sequence[UUID] | None = None,
    *,
    namespace: str = "",
) -> str:
    """SQL: a relation of the rows that held at `as_of`, each with its text of that time.

    Args:
        scope: with the namespaces that the reader can read today, whatever the time asked about.
        as_of: None for now.
        ids: these rows alone; None for all.
        namespace: SQL for the one namespace to read, in place of those given.
    """
    whose = arguments.add(scope.organization_id, "uuid")
    organization = f"m.organization_id = {whose}"
    if ids is not None:
        # By their keys: an index that begins with the organisation would read all of it.
        keys = arguments.add(list(ids), "uuid[]")
        organization = f"m.id = ANY({keys}) AND ({organization}) IS TRUE"
    here = f"{organization} AND m.namespace = {namespace}"
    if not namespace:
        names = arguments.add(list(scope.namespaces), "text[]")
        here = f"{organization} AND m.namespace = ANY({names})"
    if as_of is None:
        holds = current("m", whose) if scope.hides else current_plainly("m")
        return f"""
            SELECT m.organization_id, {_COLUMNS}, {_NOW}, m.content_sha256
            FROM memories m WHERE {here} AND {holds}
        """
    then = arguments.add(as_of, "timestamptz")
    held_then = f"""{here} AND {unexpired("m")} AND m.valid_from <= {then}
        AND (m.valid_to IS NULL OR m.valid_to > {then})
        AND (m.superseded_at > {then} OR NOT {replaced("m")})"""
    return f"""
        SELECT m.organization_id, {_COLUMNS}, {_NOW}, m.content_sha256
        FROM memories m
        WHERE {held_then} AND m.known_from <= {then}
          AND {trusted("m.organization_id", "m.author_id")}
        UNION ALL
        SELECT m.organization_id, {_COLUMNS}, {_THEN}, NULL
        FROM memories m JOIN memory_versions v
          ON v.organization_id = m.organization_id AND v.memory_id = m.id
        WHERE {held_then} AND v.known_from <= {then} AND v.known_to > {then}
          AND {trusted("m.organization_id", "v.author_id")}
    """


def wanted(arguments: Arguments, query: Query, h: str = "h") -> str:
    """SQL: what the filters of a query say about a held row."""
    terms = ["true"]
    if query.kinds:
        terms.append(f"{h}.kind = ANY({arguments.add(list(query.kinds), 'text[]')})")
    if query.tags:
        terms.append(f"{h}.tags @> {arguments.add(list(query.tags), 'text[]')}")
    if query.entities:
        terms.append(f"{h}.entities @> {arguments.add(list(query.entities), 'text[]')}")
    if query.author_id:
        terms.append(f"{h}.author_id = {arguments.add(query.author_id, 'uuid')}")
    if query.created_after:
        terms.append(f"{h}.created_at >= {arguments.add(query.created_after, 'timestamptz')}")
    if query.created_before:
        terms.append(f"{h}.created_at < {arguments.add(query.created_before, 'timestamptz')}")
    if query.label:
        terms.append(f"{h}.label = {arguments.add(query.label, 'text')}")
    if query.delegation_id:
        terms.append(f"{h}.delegation_id = {arguments.add(query.delegation_id, 'text')}")
    if query.file_id:
        terms.append(f"{h}.file_id = {arguments.add(query.file_id, 'uuid')}")
    return " AND ".join(terms)
