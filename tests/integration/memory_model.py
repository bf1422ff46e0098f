"""What the store of memories must hold and show, as a model that a test keeps beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID


class Text(NamedTuple):
    """A text of a memory, from one step of the test until another."""

    content: str
    author: UUID
    since: int
    until: int | None


@dataclass
class Memory:
    """A memory as the test knows it.

    Args:
        born: the step that stored it.
        replaced: the step that put another memory in its place.
        originals: what it was consolidated from.
        plain: whether only commits made it what it is.
    """

    id: UUID
    organization: str
    namespace: str
    texts: list[Text]
    born: int
    winner: UUID | None = None
    replaced: int | None = None
    expired: bool = False
    originals: frozenset[UUID] = frozenset()
    plain: bool = True

    @property
    def text(self) -> Text:
        """The current one."""
        return self.texts[-1]


@dataclass
class Model:
    """Two trees of workspaces, what was granted and hidden, and all memories."""

    organizations: dict[UUID, str] = field(default_factory=dict)
    parents: dict[UUID, UUID | None] = field(default_factory=dict)
    memories: dict[UUID, Memory] = field(default_factory=dict)
    grants: dict[tuple[str, UUID], bool] = field(default_factory=dict)
    hidden: set[UUID] = field(default_factory=set)

    def root(self, workspace: UUID) -> UUID:
        """The end of the workspace's chain of parents."""
        while (parent := self.parents[workspace]) is not None:
            workspace = parent
        return workspace

    def rights(self, workspace: UUID) -> dict[str, bool]:
        """Readable namespaces, and whether the workspace may write each."""
        parent = self.parents[workspace]
        root = self.root(workspace)
        rights = {f"workspace:{workspace}": True, f"team:{parent or workspace}": True}
        if workspace in self.parents.values():
            rights[f"team:{workspace}"] = True
        rights[f"org:{root}"] = rights.get(f"org:{root}", False) or parent is None
        for (namespace, holder), can_write in self.grants.items():
            if holder == workspace:
                rights[namespace] = rights.get(namespace, False) or can_write
        return rights

    def seen(self, reader: UUID) -> Iterator[Memory]:
        """What the reader may see, superseded memories included."""
        rights = self.rights(reader)
        for memory in self.memories.values():
            if self._reachable(memory, reader, rights) and memory.text.author not in self.hidden:
                yield memory

    def holding(self, reader: UUID) -> dict[UUID, str]:
        """What a search without a query shows the reader."""
        return {each.id: each.text.content for each in self.seen(reader) if not self.gave_way(each)}

    def gave_way(self, memory: Memory) -> bool:
        """Whether something that counts took the memory's place.

        What hidden authors put there does not count, however often they did. What was forgotten
        does: whoever forgot it did not bring the earlier text back.
        """
        successor = memory.winner
        while successor is not None:
            winner = self.memories.get(successor)
            if winner is None or winner.text.author not in self.hidden:
                return True
            successor = winner.winner
        return False

    def held(self, reader: UUID, step: int) -> dict[UUID, str]:
        """What such a search shows of the time right after a step, with today's rights."""
        rights = self.rights(reader)
        found = {}
        for memory in self.memories.values():
            if not self._reachable(memory, reader, rights):
                continue
            # Whether the replacement counts is judged with today's trust, like everything else.
            if memory.replaced is not None and memory.replaced <= step and self.gave_way(memory):
                continue
            for text in memory.texts:
                during = text.since <= step and (text.until is None or text.until > step)
                if during and text.author not in self.hidden:
                    found[memory.id] = text.content
        return found

    def _reachable(self, memory: Memory, reader: UUID, rights: dict[str, bool]) -> bool:
        return (
            memory.organization == self.organizations[reader]
            and memory.namespace in rights
            and not memory.expired
        )
