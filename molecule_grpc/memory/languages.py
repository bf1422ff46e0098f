"""In which language the words of a namespace are found."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.kernel.errors import Invalid, NotFound, Unavailable
from molecule_grpc.memory import refusals
from molecule_grpc.memory.held import held
from molecule_grpc.memory.store import languages as store

# Memories of one transaction: indexing their texts takes some tens of milliseconds.
_BATCH: Final = 200


async def set_language(pool: Pool, caller: UUID, namespace: str, language: str) -> int:
    """Set the language of a namespace and index its texts anew, in batches; how many changed.

    Texts that are committed meanwhile are indexed in the new language. A repeat finishes what a
    failure left.

    Raises:
        Invalid: Postgres knows no such language.
        NotFound: NAMESPACE_NOT_FOUND, WORKSPACE_NOT_FOUND.
        Denied: NAMESPACE_NOT_WRITABLE.
        Unavailable: the database does not answer, or the namespace is being deleted.
    """
    async with held(pool, caller) as within:
        conn, access = within
        place = access.of(namespace)
        if place is None:
            raise NotFound("namespace not found", reason="NAMESPACE_NOT_FOUND")
        if not place.writable:
            raise refusals.not_writable(caller, namespace)
        known = await store.known(conn)
        if language not in known:
            raise Invalid(f"language must be one of {', '.join(known)}", field="language")
        if not await store.set_language(conn, access.organization_id, namespace, language):
            raise Unavailable("the namespace has expired and is about to be deleted, try again")
    reindexed, after = 0, None
    with database_errors():
        while True:
            changed, after = await store.reindex(
                pool, access.organization_id, namespace, language, after, limit=_BATCH
            )
            reindexed += changed
            if after is None:
                return reindexed
