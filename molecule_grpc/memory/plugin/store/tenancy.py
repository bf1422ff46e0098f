"""Whether a database is a platform's."""

from __future__ import annotations

from molecule_grpc.db.pool import Connection, Pool


async def has_workspaces(conn: Connection | Pool) -> bool:
    """Whether there is any workspace."""
    return bool(await conn.fetchval("SELECT EXISTS (SELECT FROM workspaces)"))
