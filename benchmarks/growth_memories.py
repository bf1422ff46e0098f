"""Reads of memories that look at a page, for `growth`: each is flat however many rows there are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from uuid import UUID

from benchmarks.growth_rows import Rows
from molecule_grpc.memory.search.plan import Scope
from molecule_grpc.memory.search.store.listing import listing
from molecule_grpc.memory.search_values import Query
from molecule_grpc.memory.store import session, transfer

_PAGE = 5


def _namespaces(rows: Rows) -> list[str]:
    return [f"workspace:{rows.busy}"]


def _last_page(connection: Any, rows: Rows) -> Awaitable[object]:
    """The last five memories of an export: as many at every size."""
    last = UUID(int=rows.memory.int + rows.size - 10)
    return transfer.page(connection, rows.organization, (rows.organization, last))


OPERATIONS: Mapping[str, Callable[[Any, Rows], Awaitable[object]]] = {
    "memories, newest": lambda c, r: listing(
        c,
        Scope(r.organization, _namespaces(r), hides=False),
        Query(),
        after=None,
        limit=_PAGE,
    ),
    "memories, a frequent word": lambda c, r: session.search(
        c,
        r.organization,
        _namespaces(r),
        "memory",
        before=None,
        limit=_PAGE,
        max_bytes=2**20,
        seconds=60,
    ),
    "memories, a page of an export": _last_page,
}
