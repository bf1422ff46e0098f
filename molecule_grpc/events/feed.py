"""The feed of events: from now on, or from where a reader left off."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias
from uuid import UUID

from molecule_grpc.auth.authenticator import Authenticator
from molecule_grpc.auth.principal import Principal, Role
from molecule_grpc.db.pool import Pool
from molecule_grpc.db.wakeups import Flag
from molecule_grpc.events import store
from molecule_grpc.events.names import EventType
from molecule_grpc.events.readers import EventReaders
from molecule_grpc.events.tail import PAGE_BYTES, PAGE_EVENTS, EventTail
from molecule_grpc.events.tokens import ResumeTokens
from molecule_grpc.events.values import EventPage, Position, Scope, StoredEvent
from molecule_grpc.kernel.errors import Invalid, NotFound, OutOfRange, Unauthenticated
from molecule_grpc.server.streams import StreamGuard

_RECONNECT_MS = 500


@dataclass(frozen=True, slots=True)
class Beat:
    """A sign of life. No event before the token's place is outstanding."""

    resume_token: str


@dataclass(frozen=True, slots=True)
class Drain:
    """The reader must come back, after this pause: the server stops, or the stream is old."""

    reconnect_after_ms: int


Shown: TypeAlias = StoredEvent | Beat | Drain


class EventFeed:
    """Shows events to whoever may see them."""

    def __init__(
        self,
        pool: Pool,
        tail: EventTail,
        authenticator: Authenticator,
        readers: EventReaders,
        tokens: ResumeTokens,
    ) -> None:
        self._pool = pool
        self._tail = tail
        self._authenticator = authenticator
        self._readers = readers
        self._tokens = tokens

    async def scope_of(
        self, principal: Principal, workspace_id: UUID | None, types: Sequence[str]
    ) -> Scope:
        """What this caller may see, narrowed to a workspace and to types (none means all).

        Raises:
            Invalid: there is no such type.
            Unauthenticated: a workspace's token asks for another workspace.
            NotFound: the workspace is of another organisation, or of none.
        """
        unknown = [name for name in types if name not in EventType.__members__]
        if unknown:
            raise Invalid(f"types: {unknown[0]!r} is not an event type", field="types")
        organization_id = None if principal.role is Role.OPERATOR else principal.organization_id
        if principal.role is Role.WORKSPACE:
            if workspace_id not in (None, principal.workspace_id):
                raise Unauthenticated("invalid workspace auth token")
            workspace_id = principal.workspace_id
        elif workspace_id is not None:
            owner = await self._authenticator.organization_of(workspace_id)
            if owner is None or organization_id not in (None, owner):
                raise NotFound("workspace not found", reason="WORKSPACE_NOT_FOUND")
        return Scope(organization_id, workspace_id, tuple(types))

    async def start(self, resume_after: str) -> Position:
        """Where to begin: behind the event of this token; now, when it is empty.

        Raises:
            Invalid, OutOfRange: as `ResumeTokens.read` does.
            OutOfRange: CURSOR_AHEAD, the place lies beyond everything that has happened.
        """
        place = self._tokens.read(resume_after) if resume_after else None
        now = await store.now(self._pool)
        if place is not None and place > now:
            raise OutOfRange(
                "the token lies beyond the newest event; start without it", reason="CURSOR_AHEAD"
            )
        return now if place is None else place

    @contextlib.contextmanager
    def attend(self, scope: Scope) -> Iterator[Flag]:
        """Be a reader of this scope while inside; the flag is raised when there may be news."""
        with self._readers.attend(), self._tail.follow(scope) as flag:
            yield flag

    async def follow(
        self, scope: Scope, place: Position, guard: StreamGuard
    ) -> AsyncGenerator[Shown, None]:
        """Events after a place, once each and in order; beats while there are none; then a drain.

        Args:
            guard: watches over the stream, by the flag of `attend`.

        Raises:
            Unauthenticated: the token was revoked.
            Unavailable: with the drain; or the database is away.
        """
        while True:
            guard.check()
            page = self._tail.page_after(place, scope) or await self._read(place, scope)
            for event in page.events:
                yield event
            place = page.end
            if page.events:
                guard.spoke()
            if guard.over:
                yield Drain(_RECONNECT_MS)
                raise guard.drained_error()
            if page.more:
                continue
            if guard.beat_due():
                yield Beat(self._tokens.make(place, datetime.now(UTC)))
            await guard.wait()

    async def _read(self, place: Position, scope: Scope) -> EventPage:
        return await store.read(self._pool, place, scope, limit=PAGE_EVENTS, max_bytes=PAGE_BYTES)
