"""The SQL of what agents printed last."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Final
from uuid import UUID

from molecule_grpc.backends.contract.entering import LogChunk
from molecule_grpc.db.pool import Pool

# Place and length of each line, before the line.
_HEAD: Final = struct.Struct(">QI")

# A workspace that was removed meanwhile keeps nothing; and whoever kept more has the last word.
_PUT: Final = """
    INSERT INTO workspace_outputs AS kept (workspace_id, lines, place)
    SELECT id, $2, $3 FROM workspaces WHERE id = $1 AND status <> 'removed'
    ON CONFLICT (workspace_id) DO UPDATE SET lines = $2, place = $3, kept_at = now()
    WHERE kept.place < $3
"""
_GET: Final = "SELECT lines FROM workspace_outputs WHERE workspace_id = $1"


async def put(pool: Pool, workspace_id: UUID, chunks: Iterable[LogChunk]) -> None:
    """Keep these lines in the place of what is kept, unless that ends later."""
    kept = list(chunks)
    lines = b"".join(_HEAD.pack(each.offset, len(each.data)) + each.data for each in kept)
    await pool.execute(_PUT, workspace_id, lines, kept[-1].offset)


async def get(pool: Pool, workspace_id: UUID) -> list[LogChunk]:
    """What is kept, oldest first."""
    lines = await pool.fetchval(_GET, workspace_id)
    return list(_read(lines or b""))


def _read(lines: bytes) -> Iterator[LogChunk]:
    at = 0
    while at < len(lines):
        place, length = _HEAD.unpack_from(lines, at)
        at += _HEAD.size + length
        yield LogChunk(place, lines[at - length : at])
