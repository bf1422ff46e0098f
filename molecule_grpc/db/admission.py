"""A pool in which each payer's calls hold only so many connections at once."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import asyncpg
from asyncpg.pool import PoolAcquireContext

from molecule_grpc.kernel.budget import Turns
from molecule_grpc.kernel.holding import Hold
from molecule_grpc.kernel.payer import Payer, payer

# A call that holds a connection and asks for a second one must not wait for itself.
_admitted: ContextVar[bool] = ContextVar("admitted", default=False)


class AdmittingPool(asyncpg.Pool):
    """Connections in turn: a payer with too many of them waits, and the others do not.

    The platform's own tasks have no payer and are not bounded.

    Args:
        turns: counts the connections of each payer; None lets everybody in.
    """

    def __init__(self, *args: Any, turns: Turns | None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._turns = turns

    def acquire(self, *, timeout: float | None = None) -> PoolAcquireContext:
        """A connection for an `async with` block.

        Entering raises `Exhausted`, RESOURCE_EXHAUSTED, when the payer's turn does not come.
        """
        who = payer.get()
        if self._turns is None or who is None or _admitted.get():
            return _Held(self, timeout)
        return _Turn(self, timeout, self._turns, who)


class _Held(PoolAcquireContext):
    """A connection whose holder may not wait for the network."""

    __slots__ = ("_hold",)

    async def __aenter__(self) -> Any:
        connection = await super().__aenter__()
        self._hold = Hold()
        return connection

    async def __aexit__(self, *error: object) -> None:
        try:
            await super().__aexit__(*error)
        finally:
            self._hold.release()


class _Turn(_Held):
    """A connection counted against its payer while waiting and while in use."""

    __slots__ = ("_keys", "_turns")

    def __init__(
        self, pool: AdmittingPool, timeout: float | None, turns: Turns, who: Payer
    ) -> None:
        super().__init__(pool, timeout)
        self._turns = turns
        self._keys = who.keys

    async def __aenter__(self) -> Any:
        await self._turns.take(**self._keys)
        try:
            connection = await super().__aenter__()
        except BaseException:
            self._turns.give_back(**self._keys)
            raise
        _admitted.set(True)
        return connection

    async def __aexit__(self, *error: object) -> None:
        _admitted.set(False)
        try:
            await super().__aexit__(*error)
        finally:
            self._turns.give_back(**self._keys)
