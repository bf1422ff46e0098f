"""The SQL of pins, and of what workspaces were started from."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Pool

_OF_WORKSPACE: Final = """
    SELECT p.digests[1] FROM workspaces w JOIN runtime_image_pins p ON p.runtime = w.runtime
    WHERE w.id = $1
"""
_ALL: Final = "SELECT runtime, digests, pinned_at FROM runtime_image_pins"
_ONE: Final = f"{_ALL} WHERE runtime = $1"

# A digest that was pinned before moves to the front: a rollback leads to where that pin began.
_PIN: Final = """
    INSERT INTO runtime_image_pins AS p (runtime, digests) VALUES ($1, ARRAY[$2])
    ON CONFLICT (runtime) DO UPDATE
        SET digests = ($2 || array_remove(p.digests, $2))[1:20], pinned_at = now()
        WHERE p.digests[1] <> $2
"""
_ROLL_BACK: Final = """
    UPDATE runtime_image_pins SET digests = digests[2:], pinned_at = now()
    WHERE runtime = $1 AND cardinality(digests) > 1 AND ($2 = '' OR digests[1] = $2)
    RETURNING runtime, digests, pinned_at
"""
_UNPIN: Final = "DELETE FROM runtime_image_pins WHERE runtime = $1 RETURNING true"

# By the partial index alone: rows of before images were recorded are in neither number.
_COUNTS: Final = """
    SELECT w.runtime, count(*)::int AS workspaces,
           (count(*) FILTER (WHERE w.runtime_image_digest <> p.digests[1]))::int AS outdated
    FROM workspaces w LEFT JOIN runtime_image_pins p USING (runtime)
    WHERE w.runtime = ANY($1::text[]) AND w.runtime_image_digest IS NOT NULL
      AND w.status <> 'removed'
    GROUP BY w.runtime
"""
_ELSEWHERE: Final = """
    SELECT id FROM workspaces
    WHERE runtime = $1 AND runtime_image_digest IS NOT NULL AND runtime_image_digest <> $2
      AND backend = $3 AND resource_id <> '' AND status IN ('online', 'degraded') AND id > $4
    ORDER BY id LIMIT $5
"""
_SEEN: Final = "SELECT digest FROM runtime_images_seen WHERE runtime = $1 AND reference = $2"
_SEE: Final = """
    INSERT INTO runtime_images_seen AS s (runtime, reference, digest) VALUES ($1, $2, $3)
    ON CONFLICT (runtime) DO UPDATE
        SET reference = excluded.reference, digest = excluded.digest, seen_at = now()
"""
_USED: Final = """
    SELECT DISTINCT runtime FROM workspaces
    WHERE runtime = ANY($1::text[]) AND runtime_image_digest IS NOT NULL
      AND backend = $2 AND resource_id <> '' AND status <> 'removed'
"""


class Pin(NamedTuple):
    """What a runtime is pinned to.

    Args:
        digests: the one in force, then earlier ones.
    """

    runtime: str
    digests: list[str]
    pinned_at: datetime


class Counts(NamedTuple):
    """Live workspaces of a runtime whose image is known; `outdated` of them run another one."""

    workspaces: int
    outdated: int


async def of_workspace(pool: Pool, workspace_id: UUID) -> str:
    """The digest that a workspace's runtime is pinned to; empty without a pin."""
    return await pool.fetchval(_OF_WORKSPACE, workspace_id) or ""


async def all_pins(pool: Pool) -> dict[str, Pin]:
    """Every pin, by runtime."""
    return {row["runtime"]: Pin(*row) for row in await pool.fetch(_ALL)}


async def one_pin(pool: Pool, runtime: str) -> Pin | None:
    """The pin of a runtime."""
    row = await pool.fetchrow(_ONE, runtime)
    return None if row is None else Pin(*row)


async def pin(pool: Pool, runtime: str, digest: str) -> None:
    """Pin a runtime; without effect where it is pinned so."""
    await pool.execute(_PIN, runtime, digest)


async def roll_back(pool: Pool, runtime: str, from_digest: str) -> Pin | None:
    """Go back by one. None where there is nothing earlier, or another one is in force by now."""
    row = await pool.fetchrow(_ROLL_BACK, runtime, from_digest)
    return None if row is None else Pin(*row)


async def unpin(pool: Pool, runtime: str) -> bool:
    """Forget a pin. Whether there was one."""
    return bool(await pool.fetchval(_UNPIN, runtime))


async def counts(pool: Pool, runtimes: list[str]) -> dict[str, Counts]:
    """How many workspaces run what, by runtime; those without any are left out."""
    rows = await pool.fetch(_COUNTS, runtimes)
    return {row["runtime"]: Counts(row["workspaces"], row["outdated"]) for row in rows}


async def elsewhere(
    pool: Pool, runtime: str, digest: str, backend: str, *, after: UUID, limit: int
) -> list[UUID]:
    """Workspaces that are up and run another image than this one, in id order behind `after`."""
    rows = await pool.fetch(_ELSEWHERE, runtime, digest, backend, after, limit)
    return [row["id"] for row in rows]


async def seen(pool: Pool, runtime: str, reference: str) -> str | None:
    """The digest that the registry had when it was last asked; None before that."""
    found: str | None = await pool.fetchval(_SEEN, runtime, reference)
    return found


async def see(pool: Pool, runtime: str, reference: str, digest: str) -> None:
    """Note what the registry has."""
    await pool.execute(_SEE, runtime, reference, digest)


async def used(pool: Pool, runtimes: list[str], backend: str) -> list[str]:
    """Those of these runtimes that workspaces run with."""
    return [row["runtime"] for row in await pool.fetch(_USED, runtimes, backend)]
