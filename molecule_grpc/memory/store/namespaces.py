"""The SQL of namespaces: which ones a workspace can read and write, from the tree as it is."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

import asyncpg

from molecule_grpc.db.pool import Connection, Pool

# The most levels of a tree, and the most namespaces that grants add to those of the tree.
MAX_DEPTH = 50
MAX_GRANTS = 100


def right(workspace: str, namespace: str) -> str:
    """SQL: the rule by which a workspace may write a namespace; NULL without one.

    The root alone writes `org:`, so that no walk is needed.

    Args:
        workspace: alias with the columns `id`, `organization_id` and `parent_id`.
        namespace: SQL for the name.
    """
    return f"""CASE
        WHEN {namespace} = 'workspace:' || {workspace}.id THEN 'own'
        WHEN {namespace} = 'team:' || coalesce({workspace}.parent_id, {workspace}.id) THEN 'team'
        WHEN {namespace} = 'org:' || {workspace}.id AND {workspace}.parent_id IS NULL THEN 'org'
        WHEN {namespace} = 'team:' || {workspace}.id AND {_leads(workspace)} THEN 'lead'
        WHEN (
            SELECT given.can_write FROM memory_grants given
            WHERE given.organization_id = {workspace}.organization_id
              AND given.namespace = {namespace} AND given.workspace_id = {workspace}.id
        ) THEN 'grant'
    END"""


def _leads(workspace: str) -> str:
    # Not EXISTS: Postgres may answer that from a table of all children of all workspaces.
    return f"""(
            SELECT true FROM workspaces child
            WHERE child.parent_id = {workspace}.id AND (child.status <> 'removed') IS TRUE LIMIT 1
        )"""


# The anchor of a namespace that hangs on a workspace, from its name.
_ANCHOR = """
    CASE WHEN g.namespace ~ '^(workspace|team|org):[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
         THEN split_part(g.namespace, ':', 2)::uuid END
"""

# The walk goes one step beyond the deepest tree, and ends where rows form a ring.
_ACCESS = f"""
    WITH RECURSIVE self AS (
        SELECT id, organization_id, parent_id FROM workspaces
        WHERE id = $1 AND status <> 'removed'
    ),
    up (id, parent_id, depth) AS (
        SELECT id, parent_id, 1 FROM self
        UNION ALL
        SELECT w.id, w.parent_id, up.depth + 1
        FROM up JOIN workspaces w ON w.id = up.parent_id
        WHERE up.depth <= {MAX_DEPTH}
    ) CYCLE id SET looped USING path,
    shape AS (
        SELECT coalesce(bool_or(looped OR depth > {MAX_DEPTH}), false) AS broken FROM up
    ),
    of_tree (place, name, rule, anchor) AS (
        SELECT 1, 'workspace:' || id, 'own', id FROM self
        UNION ALL
        SELECT 2, 'team:' || coalesce(parent_id, id), 'team', coalesce(parent_id, id) FROM self
        UNION ALL
        SELECT 3, 'team:' || s.id, 'lead', s.id FROM self s
        WHERE s.parent_id IS NOT NULL AND {_leads("s")}
        UNION ALL
        SELECT 4, 'org:' || id, 'org', id FROM up WHERE parent_id IS NULL
    ),
    granted AS (
        SELECT 5, g.namespace, 'grant', {_ANCHOR}
        FROM self s JOIN memory_grants g
            ON g.workspace_id = s.id AND g.organization_id = s.organization_id
        WHERE g.namespace NOT IN (SELECT name FROM of_tree)
        ORDER BY g.namespace LIMIT {MAX_GRANTS}
    )
    SELECT s.organization_id, shape.broken, n.name, n.rule, n.anchor,
           coalesce(a.name, '') AS anchor_name, {right("s", "n.name")} IS NOT NULL AS writable
    FROM self s CROSS JOIN shape
    JOIN (SELECT * FROM of_tree UNION ALL SELECT * FROM granted) n ON true
    LEFT JOIN workspaces a ON a.id = n.anchor AND a.organization_id = s.organization_id
    ORDER BY n.place, n.name
"""


class Entry(NamedTuple):
    """A namespace that a workspace can read. The order of the fields is that of the statement.

    Args:
        rule: own, team, lead, org or grant.
        anchor: the workspace that the namespace hangs on; None for a custom one.
        anchor_name: empty where the anchor is unknown.
    """

    name: str
    rule: str
    anchor: UUID | None
    anchor_name: str
    writable: bool


class Resolved(NamedTuple):
    """What a live workspace can read.

    Args:
        broken: its ancestors form a ring, or are more than a tree may have.
    """

    organization_id: UUID
    broken: bool
    entries: list[Entry]


async def resolve(conn: Connection | Pool, workspace_id: UUID) -> Resolved | None:
    """The namespaces of a workspace, at most 104; None when it is unknown or removed."""
    rows = await conn.fetch(_ACCESS, workspace_id)
    if not rows:
        return None
    return Resolved(rows[0]["organization_id"], rows[0]["broken"], [_entry(row) for row in rows])


def _entry(row: asyncpg.Record) -> Entry:
    return Entry(row["name"], row["rule"], row["anchor"], row["anchor_name"], row["writable"])
