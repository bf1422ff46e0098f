"""Pages that end by rows and by bytes, so that a client with default limits can read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
Message = TypeVar("Message")

# A stock gRPC client takes messages of 4 MiB; what stands around the rows needs some of it.
MAX_PAGE_BYTES = 3 * 1024 * 1024
# A row that is larger by itself must give something up.
MAX_ROW_BYTES = 4 * 1024 * 1024 - 64 * 1024


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some rows of a longer list.

    Args:
        more: whether the list goes on behind the last row.
    """

    rows: list[T]
    more: bool

    @property
    def last(self) -> T | None:
        """The row after which the next page begins; None when there is no next page."""
        return self.rows[-1] if self.more and self.rows else None


@dataclass(frozen=True, slots=True)
class MessagePage(Generic[T, Message]):
    """The rows of a page as messages, as many as fit.

    Args:
        last: the row after which the next page begins; None when there is no next page.
    """

    messages: list[Message]
    last: T | None


def messages_of(
    page: Page[T], message: Callable[[T], Message], size: Callable[[Message], int]
) -> MessagePage[T, Message]:
    """The rows of a page as messages, cut again where the messages are larger than the rows.

    A number of two bytes in JSON text takes eleven in a message.
    """
    fitting = page_of(map(message, page.rows), limit=len(page.rows), size=size)
    if not fitting.more:
        return MessagePage(fitting.rows, page.last)
    return MessagePage(fitting.rows, page.rows[len(fitting.rows) - 1])


def page_of(
    rows: Iterable[T],
    *,
    limit: int,
    size: Callable[[T], int] | None = None,
    max_bytes: int = MAX_PAGE_BYTES,
) -> Page[T]:
    """The first rows, as many as fit. At least one, however large.

    Ask the database for `limit + 1` rows: the one beyond the limit tells whether there are more.

    Args:
        size: bytes of a row on the wire; None to end by rows alone.
    """
    taken: list[T] = []
    room = max_bytes
    for row in rows:
        if len(taken) == limit:
            return Page(taken, more=True)
        if size is not None:
            room -= size(row)
            if room < 0 and taken:
                return Page(taken, more=True)
        taken.append(row)
    return Page(taken, more=False)
