"""A transaction in which rights that follow from the tree stay true."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db import tree_lock
from molecule_grpc.db.pool import Connection, Pool, database_errors
from molecule_grpc.memory.namespaces import access, workspace_missing
from molecule_grpc.memory.values import Access


class Held(NamedTuple):
    """An open transaction, and the caller's rights to namespaces until the transaction ends."""

    conn: Connection
    access: Access


@contextlib.asynccontextmanager
async def held(pool: Pool, caller: UUID) -> AsyncIterator[Held]:
    """Open a transaction that shares the lock of the caller's tree.

    Raises:
        NotFound: WORKSPACE_NOT_FOUND.
        Conflict: TREE_TOO_DEEP.
        Unavailable: the database does not answer.
    """
    with database_errors():
        async with pool.acquire() as conn, conn.transaction():
            if await tree_lock.share_of(conn, caller) is None:
                raise workspace_missing()
            yield Held(conn, await access(conn, caller))
