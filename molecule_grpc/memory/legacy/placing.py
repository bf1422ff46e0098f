"""Where a row of an old installation belongs, and what is stored of it."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.memory.drafting import MAX_LABEL_CHARS, text
from molecule_grpc.memory.legacy.store.agent_memories import LegacyRow, Owner
from molecule_grpc.memory.rendering import recalled_id


class Skipped(Exception):
    """A row that has no place, or cannot be stored as it is; the message says why."""


class Placed(NamedTuple):
    """A row as it is stored.

    Args:
        author_id: who may write there: the owner, or its root for what all read.
        content: without secrets.
        note: what an operator should know; empty for nothing.
    """

    row: LegacyRow
    organization_id: UUID
    namespace: str
    kind: str
    author_id: UUID
    content: str
    label: str
    note: str


def placed(row: LegacyRow, owner: Owner | None) -> Placed:
    """Give a row the namespace of the row's scope: LOCAL, TEAM or GLOBAL.

    Raises:
        Skipped: the owner or its root is gone, the scope is unknown, or the text is no memory.
    """
    if owner is None:
        raise Skipped("its workspace does not exist")
    if owner.removed:
        raise Skipped("its workspace is removed")
    kind, anchor, author, note = _place(row, owner)
    return Placed(
        row=row,
        organization_id=owner.organization_id,
        namespace=f"{kind}:{anchor}",
        kind=kind,
        author_id=author,
        content=_content(row.content),
        label=row.label[:MAX_LABEL_CHARS].strip() or "general",
        note=note,
    )


def _place(row: LegacyRow, owner: Owner) -> tuple[str, UUID, UUID, str]:
    match row.scope.upper():
        case "LOCAL":
            return "workspace", owner.id, owner.id, ""
        case "TEAM":
            return "team", owner.parent_id or owner.id, owner.id, ""
        case "GLOBAL":
            if owner.root_id is None:
                raise Skipped("its workspace has no root within 50 parents")
            note = "" if owner.root_id == owner.id else f"GLOBAL of a child: root {owner.root_id}"
            return "org", owner.root_id, owner.root_id, note
    raise Skipped(f"its scope {row.scope!r} is unknown")


def _content(content: str) -> str:
    """A text as every commit stores it. The same text always gives the same."""
    if recalled_id(content) is not None:
        raise Skipped("its text was recalled from another memory")
    try:
        return text(content).content
    except Invalid as error:
        raise Skipped(error.message) from error
