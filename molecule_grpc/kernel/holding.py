"""Nothing waits for the network while it holds a database connection.

A slow store or a slow name server would keep the connection's locks, and with them the calls of
every organisation that needs the same rows. Code that opens a connection to another machine calls
`require_no_connection` first.
"""

from __future__ import annotations

from contextvars import ContextVar


class Hold:
    """A database connection in use. Tasks that were started meanwhile see when it was released."""

    __slots__ = ("_before", "_released")

    def __init__(self) -> None:
        self._released = False
        self._before = _held.get()
        _held.set(self)

    @property
    def in_use(self) -> bool:
        """Whether the connection is still held, or one that the same task took before it."""
        return not self._released or (self._before is not None and self._before.in_use)

    def release(self) -> None:
        """The connection is back in the pool."""
        self._released = True
        _held.set(self._before)


_held: ContextVar[Hold | None] = ContextVar("held", default=None)


def require_no_connection(peer: str) -> None:
    """Raise when the running task holds a database connection.

    Args:
        peer: who is about to be asked, for the message.

    Raises:
        RuntimeError: it does: a bug in the caller.
    """
    hold = _held.get()
    if hold is not None and hold.in_use:
        raise RuntimeError(f"asked {peer} while a database connection was held")
