"""Pieces that come from an engine one after the other, each in its time."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

T = TypeVar("T")


async def paced(
    pieces: AsyncGenerator[T, None],
    first: float | None,
    rest: float | None,
    calling: Callable[[float | None], AbstractAsyncContextManager[None]],
) -> AsyncGenerator[T, None]:
    """The pieces, each of which the engine must give in time. The reader may take any time.

    Args:
        first, rest: seconds for the first piece and for each of the others; None for no limit.
        calling: bounds a call of the engine, and translates how it fails.

    Raises:
        BackendFailure: as `calling`.
    """
    limit = first
    async with contextlib.aclosing(pieces):
        while True:
            async with calling(limit):
                piece = await anext(pieces, None)
            if piece is None:
                return
            limit = rest
            yield piece
