"""What the slice needs of others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Connection


class Notice(NamedTuple):
    """What an agent's inbox says of a file. The body is JSON text."""

    workspace_id: UUID
    file_id: UUID
    summary: str
    body: str


# Puts notices into the record and inbox of one workspace, in this order and this transaction.
# Raises `Exhausted` INBOX_FULL.
Announce = Callable[[Connection, Sequence[Notice]], Awaitable[None]]
# Tells, after the commit, who has news.
Wake = Callable[[Iterable[UUID]], None]
