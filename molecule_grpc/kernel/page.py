"""Pages that end by rows and by bytes, so that a client with default limits can read them."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from molecule_grpc.kernel.slices import Slices

T = TypeVar("T")
Message = TypeVar("Message")

# A stock gRPC client takes messages of 4 MiB: 1 MiB is left for fields around the rows.
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


async def messages_of(
    page: Page[T], message: Callable[[T], Message], size: Callable[[Message], int]
) -> MessagePage[T, Message]:
    """The rows of a page as messages, cut again where the messages are larger than the rows.

    A number of two bytes in JSON text takes eleven in a message.
    """
    fitting = await page_in_slices(map(message, page.rows), limit=len(page.rows), size=size)
    return message_page(page, fitting)


def message_page(page: Page[T], fitting: Page[Message]) -> MessagePage[T, Message]:
    """The messages that fit of those of all rows of a page."""
    if not fitting.more:
        return MessagePage(fitting.rows, page.last)
    return MessagePage(fitting.rows, page.rows[len(fitting.rows) - 1])


class _Filling(Generic[T]):
    """A page under construction, bounded by rows and bytes."""

    def __init__(self, limit: int, size: Callable[[T], int] | None, max_bytes: int) -> None:
        self.rows: list[T] = []
        self._limit = limit
        self._size = size
        self._room = max_bytes

    def takes(self, row: T) -> bool:
        """Add a row and return True, or return False when the page is full."""
        if len(self.rows) == self._limit:
            return False
        if self._size is not None:
            self._room -= self._size(row)
            if self._room < 0 and self.rows:
                return False
        self.rows.append(row)
        return True


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
    filling = _Filling(limit, size, max_bytes)
    more = any(not filling.takes(row) for row in rows)
    return Page(filling.rows, more)


async def page_in_slices(
    rows: Iterable[T] | AsyncIterable[T], *, limit: int, size: Callable[[T], int]
) -> Page[T]:
    """Like `page_of`, for rows that take time to make: the loop turns after each millisecond."""
    filling = _Filling(limit, size, MAX_PAGE_BYTES)
    made = rows if isinstance(rows, AsyncIterable) else Slices().each(rows)
    async for row in made:
        if not filling.takes(row):
            return Page(filling.rows, more=True)
    return Page(filling.rows, more=False)
