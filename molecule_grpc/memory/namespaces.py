"""Which namespaces a workspace can read and write at this moment."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from molecule_grpc.db.pool import Connection, Pool, database_errors
from molecule_grpc.kernel.errors import Conflict, NotFound
from molecule_grpc.memory.store import namespaces as store
from molecule_grpc.memory.store.languages import languages_of
from molecule_grpc.memory.values import Access, NamespaceAccess, NamespaceKind, Rule

_DESCRIPTIONS = {
    Rule.OWN: "private to {name}",
    Rule.TEAM: "shared by the team of {name}",
    Rule.LEAD: "shared by the team of {name}, which this workspace leads",
    Rule.ORG: "read by everybody below {name}, written by {name} alone",
    Rule.GRANT: "granted by an operator: {name}",
}


class Namespaces:
    """Derives rights from the rows as they are now; nothing is remembered."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def access(self, workspace_id: UUID) -> Access:
        """What a workspace can read and write.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND: it is unknown or removed.
            Conflict: TREE_TOO_DEEP: its ancestors form a ring, or are more than 50.
            Unavailable: the database does not answer.
        """
        with database_errors():
            return await access(self._pool, workspace_id)

    async def with_languages(self, access: Access) -> Access:
        """The same, each namespace with its language. Raises Unavailable as `access` does."""
        with database_errors():
            spoken = await languages_of(self._pool, access.organization_id, access.readable)
        return replace(
            access,
            namespaces=tuple(
                each._replace(language=spoken.get(each.name, "")) for each in access.namespaces
            ),
        )


async def access(conn: Connection | Pool, workspace_id: UUID) -> Access:
    """Like `Namespaces.access`, on a connection: under the tree's lock it stays true."""
    found = await store.resolve(conn, workspace_id)
    if found is None:
        raise workspace_missing()
    if found.broken:
        raise Conflict(
            f"workspace tree is cyclic or deeper than {store.MAX_DEPTH}", reason="TREE_TOO_DEEP"
        )
    return Access(workspace_id, found.organization_id, tuple(map(_seen, found.entries)))


def kind_of(namespace: str) -> str:
    """The part of a name in front of the colon."""
    return namespace.partition(":")[0]


def workspace_missing() -> NotFound:
    """The error for a workspace that is unknown or removed."""
    return NotFound("workspace not found", reason="WORKSPACE_NOT_FOUND")


def _seen(entry: store.Entry) -> NamespaceAccess:
    kind, _, identity = entry.name.partition(":")
    shown = entry.anchor_name.strip()
    if not shown:
        shown = identity if kind == NamespaceKind.CUSTOM else f"Workspace ({identity[:8]})"
    rule = Rule(entry.rule)
    return NamespaceAccess(
        name=entry.name,
        kind=NamespaceKind(kind),
        display_name=shown,
        description=_DESCRIPTIONS[rule].format(name=shown),
        writable=entry.writable,
        rule=rule,
    )
