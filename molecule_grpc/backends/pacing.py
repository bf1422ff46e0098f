"""Calls of an engine that end in time, and pieces that the engine gives, each in its time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason

T = TypeVar("T")


@contextlib.asynccontextmanager
async def bounded(deadline: float | None, public: str) -> AsyncIterator[None]:
    """End the block after `deadline` seconds; None for no limit.

    Args:
        public: the failure's sentence for people.

    Raises:
        BackendFailure: `timeout`, retryable.
    """
    limit = asyncio.timeout(deadline)
    try:
        async with limit:
            yield
    except TimeoutError as error:
        raise BackendFailure(
            FailureReason.TIMEOUT,
            public,
            detail=f"no answer within {deadline} s" if limit.expired() else str(error),
            retryable=True,
        ) from error


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
