"""Version 1 of the contract between the platform and a store of memories: memories.

Every object has a `parse`, which takes JSON that was read already, and a `json`, which gives it
back. `parse` ignores fields that it does not know, so that either side may be newer. Ids are
opaque: a store may make any text of up to 256 bytes.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self

from molecule_grpc.memory.contract import fields as read
from molecule_grpc.memory.contract.times import as_text

VERSION: Final = "1.0.0"
KINDS: Final = ("fact", "summary", "checkpoint")
SOURCES: Final = ("agent", "runtime", "user")
NAMESPACE_KINDS: Final = ("workspace", "team", "org", "custom")
DEFAULT_LIMIT: Final = 20
MOST_HITS: Final = 100
MOST_NAMESPACES: Final = 1_000
MOST_CONTENT_BYTES: Final = 100_000
MOST_DIMENSIONS: Final = 4_096
MOST_OBJECT_BYTES: Final = 65_536


class Capability(enum.StrEnum):
    """What a store can do beyond keeping texts."""

    EMBEDDING = "embedding"
    """Ranks by the vectors of query and memories."""
    FTS = "fts"
    """Finds by words."""
    TTL = "ttl"
    """Hides memories after `expires_at`."""
    PIN = "pin"
    """Lists pinned memories first."""
    PROPAGATION = "propagation"
    """Gives back the object `propagation` of a memory."""
    LIST = "list"
    """Lists all memories of a namespace, in pages. Not in version 1.0 of the contract."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryWrite:
    """A memory to be stored.

    Args:
        id: makes a repeat safe: the memory with this id is made or overwritten, in its namespace
            only. None lets the store make an id.
        propagation: an object that the store keeps and does not read.
        created_at: when it was first committed; a store that does not know the field has its own.
    """

    content: str
    kind: str = "fact"
    source: str = "agent"
    id: str | None = None
    expires_at: datetime | None = None
    propagation: Mapping[str, Any] | None = None
    pin: bool = False
    embedding: Sequence[float] | None = None
    created_at: datetime | None = None

    @classmethod
    def parse(cls, data: object) -> Self:
        """Raises `ContractInvalid`."""
        body = read.mapping(data, "body")
        return cls(
            content=read.content(body, MOST_CONTENT_BYTES),
            kind=read.choice(body, "kind", KINDS, default="fact"),
            source=read.choice(body, "source", SOURCES, default="agent"),
            id=read.optional_uuid(body, "id"),
            expires_at=read.optional_time(body, "expires_at"),
            propagation=read.optional_object(body, "propagation", MOST_OBJECT_BYTES),
            pin=read.flag(body, "pin"),
            embedding=read.optional_vector(body, "embedding", MOST_DIMENSIONS),
            created_at=read.optional_time(body, "created_at"),
        )

    def json(self) -> dict[str, Any]:
        return without_none(
            id=self.id,
            content=self.content,
            kind=self.kind,
            source=self.source,
            expires_at=as_text(self.expires_at),
            propagation=self.propagation,
            pin=self.pin or None,
            embedding=None if self.embedding is None else list(self.embedding),
            created_at=as_text(self.created_at),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Where a memory was stored."""

    id: str
    namespace: str

    @classmethod
    def parse(cls, data: object) -> Self:
        """Raises `ContractInvalid`."""
        body = read.mapping(data, "reply")
        return cls(id=read.text(body, "id"), namespace=str(body.get("namespace") or ""))

    def json(self) -> dict[str, Any]:
        return {"id": self.id, "namespace": self.namespace}


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """A memory as it was found."""

    id: str
    namespace: str
    content: str
    kind: str
    source: str
    created_at: datetime | None
    expires_at: datetime | None = None
    propagation: Mapping[str, Any] | None = None
    pin: bool = False
    score: float | None = None

    @classmethod
    def parse(cls, data: object) -> Self:
        """Raises `ContractInvalid`."""
        body = read.mapping(data, "memory")
        return cls(
            id=read.text(body, "id"),
            namespace=read.text(body, "namespace"),
            content=read.text(body, "content"),
            kind=str(body.get("kind") or "fact"),
            source=str(body.get("source") or "agent"),
            created_at=read.optional_time(body, "created_at"),
            expires_at=read.optional_time(body, "expires_at"),
            propagation=read.optional_object(body, "propagation"),
            pin=body.get("pin") is True,
            score=read.optional_number(body, "score"),
        )

    def json(self) -> dict[str, Any]:
        return without_none(
            id=self.id,
            namespace=self.namespace,
            content=self.content,
            kind=self.kind,
            source=self.source,
            created_at=as_text(self.created_at),
            expires_at=as_text(self.expires_at),
            propagation=self.propagation,
            pin=self.pin,
            score=self.score,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Memories of a namespace, oldest first. `next_cursor` is None at the end."""

    memories: list[Memory]
    next_cursor: str | None = None

    @classmethod
    def parse(cls, data: object) -> Self:
        """Raises `ContractInvalid`."""
        body = read.mapping(data, "page")
        rows = body.get("memories")
        if not isinstance(rows, list):
            raise read.ContractInvalid("memories must be a list")
        cursor = read.optional_text(body, "next_cursor") or None
        return cls(memories=[Memory.parse(row) for row in rows], next_cursor=cursor)

    def json(self) -> dict[str, Any]:
        memories = [memory.json() for memory in self.memories]
        return without_none(memories=memories, next_cursor=self.next_cursor)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """What to look for, and where. No namespace means a mistake of the caller, never everywhere."""

    namespaces: Sequence[str]
    query: str = ""
    kinds: Sequence[str] = ()
    limit: int = 0
    embedding: Sequence[float] | None = None

    @classmethod
    def parse(cls, data: object) -> Self:
        """Raises `ContractInvalid`."""
        body = read.mapping(data, "body")
        request = cls(
            namespaces=read.texts(body.get("namespaces") or [], "namespaces"),
            query=read.optional_text(body, "query"),
            kinds=read.texts(body.get("kinds") or [], "kinds"),
            limit=read.whole(body, "limit", 0),
            embedding=read.optional_vector(body, "embedding", MOST_DIMENSIONS),
        )
        request.check()
        return request

    def check(self) -> None:
        """Raises `ContractInvalid`."""
        if not 1 <= len(self.namespaces) <= MOST_NAMESPACES:
            raise read.ContractInvalid(f"namespaces must name 1 to {MOST_NAMESPACES} namespaces")
        for name in self.namespaces:
            read.namespace(name)
        if unknown := set(self.kinds) - set(KINDS):
            raise read.ContractInvalid(f"kind {min(unknown)!r} is unknown")
        if not 0 <= self.limit <= MOST_HITS:
            raise read.ContractInvalid(f"limit must be 0 to {MOST_HITS}")

    @property
    def most(self) -> int:
        """How many memories may be found."""
        return self.limit or DEFAULT_LIMIT

    def json(self) -> dict[str, Any]:
        return without_none(
            namespaces=list(self.namespaces),
            query=self.query or None,
            kinds=list(self.kinds) or None,
            limit=self.limit or None,
            embedding=None if self.embedding is None else list(self.embedding),
        )


def without_none(**values: Any) -> dict[str, Any]:
    """The values that are not None, by name."""
    return {name: value for name, value in values.items() if value is not None}
