"""Types that the modules of the slice share."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID


class NamespaceKind(enum.StrEnum):
    """What a namespace hangs on."""

    WORKSPACE = "workspace"
    TEAM = "team"
    ORG = "org"
    CUSTOM = "custom"


class Rule(enum.StrEnum):
    """Why a workspace may read a namespace."""

    OWN = "own"
    TEAM = "team"
    LEAD = "lead"
    ORG = "org"
    GRANT = "grant"


class EmbedState(enum.StrEnum):
    """Whether a memory can be found by meaning."""

    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"
    NONE = "none"
    """There was no embedder when the memory was stored."""


class NamespaceAccess(NamedTuple):
    """A namespace that a workspace can read.

    Args:
        display_name: name of the workspace that anchors it, or of the custom namespace.
        description: whose it is, for people.
        language: of its words; empty where nobody asked, or it holds nothing.
    """

    name: str
    kind: NamespaceKind
    display_name: str
    description: str
    writable: bool
    rule: Rule
    language: str = ""


@dataclass(frozen=True, slots=True)
class Access:
    """What one workspace may read and write now, in the order own, team, lead, org, grants."""

    workspace_id: UUID
    organization_id: UUID
    namespaces: tuple[NamespaceAccess, ...]

    @property
    def readable(self) -> list[str]:
        """The names of all its namespaces."""
        return [each.name for each in self.namespaces]

    @property
    def writable(self) -> list[str]:
        """The names of the namespaces that the workspace may write."""
        return [each.name for each in self.namespaces if each.writable]

    def of(self, name: str) -> NamespaceAccess | None:
        """A namespace by its name; None if the workspace cannot read it."""
        return next((each for each in self.namespaces if each.name == name), None)

    def chosen(self, requested: Sequence[str]) -> list[str]:
        """The requested names that are readable, in their order, each once; all for no request."""
        if not requested:
            return self.readable
        readable = set(self.readable)
        return [name for name in dict.fromkeys(requested) if name in readable]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What an author wants to be remembered. Not yet redacted.

    Args:
        namespace: empty for the author's own.
        metadata: JSON text of an object.
        id: the id that the memory shall have; None for a new one.
        keep_duplicate: store the text although the namespace has the same already.
        label: of clients that know scopes.
        created_at: when it was first committed elsewhere; None for now.
    """

    content: str
    namespace: str = ""
    kind: str = "fact"
    source: str = "agent"
    tags: tuple[str, ...] = ()
    entities: tuple[str, ...] = ()
    pinned: bool = False
    expires_at: datetime | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    delegation_id: str | None = None
    file_id: UUID | None = None
    metadata: str | None = None
    id: UUID | None = None
    keep_duplicate: bool = False
    label: str = "general"
    created_at: datetime | None = None


class Similar(NamedTuple):
    """A stored memory that resembles another.

    Args:
        cosine: of the two texts; None without an embedder.
        shared_wording: share of runs of five characters that both have, 0 to 1.
    """

    id: UUID
    cosine: float | None
    shared_wording: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """What became of a draft.

    Args:
        unchanged: nothing was stored, the namespace has the same text under `id`.
        redactions: how many secrets were replaced, by label.
        embed_pending: it cannot be found by meaning yet.
    """

    id: UUID
    namespace: str
    unchanged: bool = False
    similar: Sequence[Similar] = ()
    redactions: dict[str, int] = field(default_factory=dict)
    embed_pending: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What to change of a memory; None leaves a field as it is.

    Args:
        cleared: of `expires_at`, `valid_from` and `valid_to`, those to be as if never given.
    """

    content: str | None = None
    kind: str | None = None
    tags: tuple[str, ...] | None = None
    entities: tuple[str, ...] | None = None
    pinned: bool | None = None
    expires_at: datetime | None = None
    valid_to: datetime | None = None
    label: str | None = None
    source: str | None = None
    valid_from: datetime | None = None
    delegation_id: str | None = None
    file_id: UUID | None = None
    metadata: str | None = None
    if_version: int | None = None
    cleared: frozenset[str] = frozenset()


class Updated(NamedTuple):
    """A memory after an update. Without a change nothing was written."""

    id: UUID
    namespace: str
    label: str
    version: int
    changed: bool
    redactions: dict[str, int]


class Consolidated(NamedTuple):
    """The memory that took the place of others; None on a dry run."""

    result: Committed | None
    superseded: list[UUID]


class MemoryRow(NamedTuple):
    """A memory as it is stored: its text is not yet fit for an agent, see `rendering`."""

    id: UUID
    namespace: str
    content: str
    kind: str
    source: str
    tags: list[str]
    entities: list[str]
    label: str
    author_id: UUID | None
    author_name: str | None
    pinned: bool
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    valid_from: datetime
    valid_to: datetime | None
    supersedes: list[UUID]
    superseded_by: UUID | None
    version: int
    delegation_id: str | None
    file_id: UUID | None
    metadata: str | None
    embed_state: str


class VersionRow(NamedTuple):
    """One text of a chain of memories; see `rendering` for its text."""

    memory_id: UUID
    namespace: str
    version: int
    content: str
    change: str
    author_id: UUID | None
    known_from: datetime
    known_to: datetime | None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that the agents of a namespace may want to mend."""

    problem: str
    memory_ids: list[UUID]
    detail: str
    remedy: str
    count: int


class Hygiene(NamedTuple):
    """The report on a namespace."""

    namespace: str
    memories: int
    bytes: int
    redacted_share: float
    findings: list[Finding]
