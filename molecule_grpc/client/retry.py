"""Decides whether a call is tried again, and after how many seconds."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from molecule_grpc.client.errors import (
    CallError,
    DeadlineExceeded,
    Fenced,
    InboxBusy,
    InvalidArgument,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)

T = TypeVar("T")

log = logging.getLogger(__name__)


class Backoff:
    """Waits whose bound doubles, each drawn at random from 0 to the bound (full jitter).

    Args:
        first: bound of the first wait, in seconds.
        most: bound that no wait exceeds, in seconds.
    """

    def __init__(self, first: float = 0.1, most: float = 5.0) -> None:
        self._first = first
        self._most = most
        self._bound = first

    def reset(self) -> None:
        """Begin again with the first bound."""
        self._bound = self._first

    def next_wait(self) -> float:
        """Seconds to wait now."""
        bound, self._bound = self._bound, min(self._most, self._bound * 2)
        return random.uniform(0, bound)  # noqa: S311  (not a secret)


def is_retryable(error: CallError) -> bool:
    """Whether the same call may succeed some seconds later."""
    if isinstance(error, Unavailable | DeadlineExceeded):
        return True
    full = isinstance(error, ResourceExhausted)
    return full and (error.retry_after is not None or error.reason == "QUEUE_FULL")


def ends_for_good(error: CallError) -> bool:
    """Whether a new stream would meet the same answer, or take the inbox from its holder."""
    if isinstance(error, NotFound):
        return error.reason != "ITEM_NOT_FOUND"
    if isinstance(error, InvalidArgument):
        return error.reason != "ACK_NOT_DELIVERED"
    return isinstance(
        error, Unauthenticated | PermissionDenied | InboxBusy | Fenced | OutOfRange | Unimplemented
    )


async def with_retries(attempt: Callable[[float], Awaitable[T]], budget: float) -> T:
    """Run `attempt` until it succeeds, fails for good, or `budget` seconds are used up.

    `attempt` is called with the seconds that are left.

    Raises:
        CallError: the last failure.
    """
    end = time.monotonic() + budget
    backoff = Backoff()
    while True:
        try:
            return await attempt(max(0.001, end - time.monotonic()))
        except CallError as error:
            if not is_retryable(error):
                raise
            wait = max(backoff.next_wait(), error.retry_after or 0.0)
            if time.monotonic() + wait >= end:
                raise
            log.debug("call failed, again in %.2f s: %s", wait, error)
        await asyncio.sleep(wait)
