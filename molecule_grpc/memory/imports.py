"""Memories on their way back in: each enters through the same commit as any other."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.kernel.errors import AlreadyExists, Denied, Invalid, MoleculeError
from molecule_grpc.kernel.ids import as_id
from molecule_grpc.kernel.json_text import to_text
from molecule_grpc.kernel.moments import storable
from molecule_grpc.kernel.text import clean, cut_bytes
from molecule_grpc.memory.exports import no_organization
from molecule_grpc.memory.json_array import ArrayReader
from molecule_grpc.memory.ports import Storing
from molecule_grpc.memory.store import transfer as store
from molecule_grpc.memory.values import Committed, Draft

_AT_ONCE: Final = 50
_MOST_SKIPS: Final = 100
_REASON_BYTES: Final = 200
_KINDS: Final = {"LOCAL": "workspace", "TEAM": "team", "GLOBAL": "org"}


class Skip(NamedTuple):
    """An element that was not stored, by its place from 0."""

    place: int
    reason: str


@dataclass(slots=True)
class Imported:
    """What became of an array. `skips` holds the first 100 of those skipped or refused."""

    imported: int = 0
    skipped: int = 0
    errors: int = 0
    total: int = 0
    skips: list[Skip] = field(default_factory=list)


class _Workspace(NamedTuple):
    id: UUID
    parent_id: UUID | None


class _Skipped(Exception):
    """An element that has no place here."""


class Imports:
    """Stores what an export holds. Workspaces are found by name: their ids may be others."""

    def __init__(self, pool: Pool, commits: Storing) -> None:
        self._pool = pool
        self._commits = commits

    async def run(self, organization_id: UUID, pieces: AsyncIterator[bytes]) -> Imported:
        """Store the elements of an array as it arrives, 50 at once.

        Raises:
            NotFound: ORGANIZATION_NOT_FOUND.
            Invalid: the body is no array of objects; what came before is stored.
        """
        with database_errors():
            if not await store.organization_exists(self._pool, organization_id):
                raise no_organization()
        done, reader = Imported(), ArrayReader()
        async for piece in pieces:
            elements = reader.feed(piece)
            for start in range(0, len(elements), _AT_ONCE):
                await self._store(organization_id, elements[start : start + _AT_ONCE], done)
        reader.end()
        return done

    async def _store(
        self, organization_id: UUID, elements: Sequence[dict[str, Any]], done: Imported
    ) -> None:
        given = (each.get(name) for each in elements for name in ("workspace_name", "author_name"))
        names = {clean(name) for name in given if isinstance(name, str)}
        known = await self._known(organization_id, list(names))
        outcomes = await asyncio.gather(*(self._one(each, known) for each in elements))
        for outcome in outcomes:
            if outcome is None:
                done.imported += 1
            elif isinstance(outcome, _Skipped):
                done.skipped += 1
            else:
                done.errors += 1
            if outcome is not None and len(done.skips) < _MOST_SKIPS:
                done.skips.append(Skip(done.total, cut_bytes(str(outcome), _REASON_BYTES)))
            done.total += 1

    async def _known(
        self, organization_id: UUID, names: Sequence[str]
    ) -> dict[str, list[_Workspace]]:
        known: dict[str, list[_Workspace]] = {}
        with database_errors():
            rows = await store.named(self._pool, organization_id, names)
        for name, identity, parent_id in rows:
            known.setdefault(name, []).append(_Workspace(identity, parent_id))
        return known

    async def _one(
        self, element: dict[str, Any], known: dict[str, list[_Workspace]]
    ) -> _Skipped | MoleculeError | None:
        """Store one element; what hindered it."""
        try:
            anchor = _only(known, element.get("workspace_name"))
            draft = _draft(element, anchor)
            author = anchor.id
            if element.get("author_name") not in (None, "", element.get("workspace_name")):
                author = _only(known, element["author_name"]).id
            await self._commit(author, anchor.id, draft)
        except AlreadyExists as error:
            # An import brings back what is gone, and takes nothing back that was changed since.
            return _Skipped(error.message)
        except (_Skipped, MoleculeError) as error:
            return error
        return None

    async def _commit(self, author: UUID, anchor: UUID, draft: Draft) -> Committed:
        """Store in the author's name; in the anchor's where the author may no longer write."""
        try:
            return await self._commits.commit(author, draft, operator=True, overwrite=False)
        except Denied:
            if author == anchor:
                raise
            return await self._commits.commit(anchor, draft, operator=True, overwrite=False)


def _only(known: dict[str, list[_Workspace]], name: object) -> _Workspace:
    """The live workspace with a name."""
    found = known.get(clean(name), []) if isinstance(name, str) else []
    if len(found) != 1:
        raise _Skipped("ambiguous" if found else "missing")
    return found[0]


def _draft(element: dict[str, Any], anchor: _Workspace) -> Draft:
    """What an element asks for.

    Raises:
        _Skipped: its scope has no namespace.
        Invalid: a field has the wrong type.
    """
    identity = as_id(element.get("id"))
    draft = Draft(
        content=clean(_text(element, "content")),
        namespace=_namespace(element, anchor),
        kind=_text(element, "kind") or "fact",
        source=_text(element, "source") or "agent",
        tags=_texts(element, "tags"),
        entities=_texts(element, "entities"),
        pinned=element.get("pinned") is True,
        expires_at=_time(element, "expires_at"),
        valid_from=_time(element, "valid_from"),
        valid_to=_time(element, "valid_to"),
        delegation_id=clean(_text(element, "delegation_id")) or None,
        file_id=as_id(element.get("file_id")),
        id=identity,
        # The id tells a repeat from a second memory with the same text.
        keep_duplicate=identity is not None,
        label=clean(_text(element, "namespace")) or "general",
        created_at=_time(element, "created_at"),
    )
    metadata = element.get("metadata")
    if not isinstance(metadata, dict):
        return draft
    return dataclasses.replace(draft, metadata=to_text(metadata, "metadata"))


def _namespace(element: dict[str, Any], anchor: _Workspace) -> str:
    """The namespace of the same kind that hangs on the anchor as it is here."""
    scope = _text(element, "scope")
    if scope == "CUSTOM":
        named = clean(_text(element, "memory_namespace"))
        if not named.startswith("custom:"):
            raise _Skipped("scope")
        return named
    if scope not in _KINDS:
        raise _Skipped("scope")
    kind = _KINDS[scope]
    if scope == "GLOBAL" and anchor.parent_id is not None:
        raise _Skipped("scope")
    # An older export names the author of a team's memory, and not whom the team hangs on.
    of_author = scope == "TEAM" and not element.get("memory_namespace")
    return f"{kind}:{(anchor.parent_id if of_author else None) or anchor.id}"


def _text(element: dict[str, Any], name: str) -> str:
    value = element.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Invalid(f"{name} must be a text", field=name)
    return value


def _texts(element: dict[str, Any], name: str) -> tuple[str, ...]:
    values = element.get(name) or []
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise Invalid(f"{name} must be an array of texts", field=name)
    return tuple(map(clean, values))


def _time(element: dict[str, Any], name: str) -> datetime | None:
    text = _text(element, name)
    try:
        moment = datetime.fromisoformat(text) if text else None
        if moment is not None and moment.tzinfo is None:
            raise ValueError("no offset")
        return None if moment is None else storable(moment)
    except ValueError:
        raise Invalid(f"{name} must be an RFC 3339 time", field=name) from None
