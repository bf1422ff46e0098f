"""Sweeps over workspaces in pages, by id."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar
from uuid import UUID

from molecule_grpc.db.sweep import in_batches

BATCH: Final = 100
_BEFORE_ALL: Final = UUID(int=0)
# Between two pages, so that one sweep does not keep Postgres from others.
_PAUSE_SECONDS: Final = 0.005

Row = TypeVar("Row")
Row_co = TypeVar("Row_co", covariant=True)


class Page(Protocol[Row_co]):
    """Reads the rows behind an id."""

    async def __call__(self, *, after: UUID, limit: int) -> Sequence[Row_co]: ...


async def over_pages(
    name: str,
    read: Page[Row],
    id_of: Callable[[Row], UUID],
    handle: Callable[[Sequence[Row]], Awaitable[None]],
) -> None:
    """Read page after page and handle each. A page that cannot be handled ends the sweep.

    Args:
        name: for the log.
    """
    last = _BEFORE_ALL

    async def step(limit: int) -> int:
        nonlocal last
        rows = await read(after=last, limit=limit)
        if rows:
            await handle(rows)
            last = id_of(rows[-1])
        return len(rows)

    await in_batches(name, step, batch=BATCH, pause=_PAUSE_SECONDS)
