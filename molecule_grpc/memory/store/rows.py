"""A memory as reads select it: columns, joins, and the row that leaves the store."""

from __future__ import annotations

from typing import Final

import asyncpg

from molecule_grpc.memory.store.visible import beside, replaced, visible
from molecule_grpc.memory.values import MemoryRow

# Of those that a memory replaced, the first in the order of ids.
_MOST_REPLACED = 100

# In the order of `MemoryRow`; from `memories m` and `AUTHOR`.
COLUMNS: Final = f"""
    m.id, m.namespace, m.content, m.kind, m.source, m.tags, m.entities, m.label, m.author_id,
    writer.name AS author_name, m.pinned, m.created_at, m.updated_at, m.expires_at, m.valid_from,
    m.valid_to,
    ARRAY(SELECT x.id FROM memories x
          WHERE x.superseded_by = m.id AND {beside("x", "m")}
            AND {visible("x")} ORDER BY x.id LIMIT {_MOST_REPLACED}) AS supersedes,
    CASE WHEN {replaced("m")} THEN m.superseded_by END AS superseded_by, m.version,
    m.delegation_id, m.file_id, m.metadata::text AS metadata, m.embed_state
"""

# A join with the workspace that wrote the memory, for the author's name.
AUTHOR: Final = """
    LEFT JOIN workspaces writer
        ON writer.id = m.author_id AND (writer.organization_id = m.organization_id) IS TRUE
"""


def memory_row(row: asyncpg.Record) -> MemoryRow:
    """The memory of a row with `COLUMNS`, whatever else the row has."""
    return MemoryRow(*(row[name] for name in MemoryRow._fields))
