"""The inbox' use cases outside streams: pulling, acks and nacks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.db.wakeups import Wakeups
from molecule_grpc.delegation.inbox import rules, starts
from molecule_grpc.delegation.inbox.ports import OnPoisoned
from molecule_grpc.delegation.inbox.reads import InboxReads
from molecule_grpc.delegation.inbox.store import acks, leases, reads
from molecule_grpc.kernel.errors import Conflict, NotFound, OutOfRange
from molecule_grpc.kernel.ids import as_id
from molecule_grpc.kernel.text import clean
from molecule_grpc.server.streams import StreamGuards
from molecule_grpc.server.task_set import finish

DEFAULT_PULL = 20
_LOOK_SECONDS = 5.0
_LAST_SECONDS = 5.0


class PulledInbox(NamedTuple):
    """Undone items in their order, and where the inbox stands.

    Args:
        prev_seq: the items follow this one: the caller's cursor, or the mark if that is higher.
    """

    items: list[reads.InboxRow]
    prev_seq: int
    head_seq: int
    acked_seq: int
    oldest_seq: int
    generation: str


class Inbox:
    """Gives workspaces what they must act on, and records what is done."""

    def __init__(
        self,
        pool: Pool,
        reads_: InboxReads,
        wakeups: Wakeups,
        guards: StreamGuards,
        on_poisoned: OnPoisoned,
    ) -> None:
        self._pool = pool
        self._reads = reads_
        self._wakeups = wakeups
        self._guards = guards
        self._on_poisoned = on_poisoned

    async def pull(
        self,
        workspace_id: UUID,
        *,
        after_seq: int | None = None,
        generation: str = "",
        limit: int = DEFAULT_PULL,
        wait_seconds: float = 0.0,
        authorization: str | None = None,
    ) -> PulledInbox:
        """Undone items, waiting up to `wait_seconds` for the first one; a drain ends the wait.

        Args:
            generation: of the inbox that `after_seq` belongs to; empty is not checked.
            authorization: the header that the caller sent: the wait ends when its token is revoked.

        Raises:
            OutOfRange: CURSOR_AHEAD, CURSOR_PRUNED or CURSOR_UNKNOWN.
            Unauthenticated: the token was revoked during the wait.
        """
        end = time.monotonic() + wait_seconds
        query = reads.InboxQuery(workspace_id, after_seq or 0, limit)
        with (
            self._wakeups.watch(workspace_id) as flag,
            self._guards.watch_token(flag, authorization, beats=False) as guard,
        ):
            while True:
                guard.check()
                page = await self._reads.look(query)
                if guard.revoked:  # during the look
                    raise guard.revoked_error()
                starts.require_generation(generation, page.generation)
                # The page has items that were given back in the order in which they are due.
                items = sorted(page.items, key=lambda row: row.seq)[:limit]
                if after_seq is not None:
                    starts.after_cursor(after_seq, page, allow_gap=False)
                    items = [row for row in items if row.seq > after_seq]
                rest = end - time.monotonic()
                if items or rest <= 0 or guard.draining:
                    return _pulled(query, page, items)
                await guard.wait(min(rest, page.retry_in or _LOOK_SECONDS, _LOOK_SECONDS))

    async def ack(
        self,
        workspace_id: UUID,
        *,
        up_to: int = 0,
        seqs: Sequence[int] = (),
        activity_ids: Sequence[UUID] = (),
        epoch: int | None = None,
        generation: str = "",
    ) -> acks.Acked:
        """Mark items as done: all up to a number, and some by their number or activity row.

        Args:
            generation: of the inbox that the numbers belong to; empty is not checked.

        Raises:
            Conflict: FENCED, `epoch` is not the session that holds the inbox.
            OutOfRange: CURSOR_UNKNOWN, or CURSOR_AHEAD: an item lies beyond the newest one.
        """
        if generation and as_id(generation) is None:
            raise starts.unknown_cursor()
        chosen = set(seqs)
        if activity_ids:
            chosen.update(await reads.seqs_of(self._pool, workspace_id, activity_ids))
        ack = acks.Ack(workspace_id, up_to, tuple(sorted(chosen)), epoch, generation or None)
        done = await self._ack(ack)
        self._wakeups.wake([workspace_id])
        return done

    async def ack_in_session(
        self, workspace_id: UUID, up_to: int, seqs: tuple[int, ...], epoch: int | None
    ) -> acks.Acked:
        """Mark items as done, for a stream that takes note of the result itself.

        Raises:
            Conflict: FENCED, `epoch` is not the session that holds the inbox.
        """
        return await self._ack(acks.Ack(workspace_id, up_to, seqs, epoch))

    async def _ack(self, ack: acks.Ack) -> acks.Acked:
        match await self._reads.ack(ack):
            case acks.Acked() as done:
                return done
            case acks.AckRefusal.CURSOR_UNKNOWN:
                raise starts.unknown_cursor()
            case acks.AckRefusal.CURSOR_AHEAD:
                raise OutOfRange("the ack names an item beyond the newest", reason="CURSOR_AHEAD")
            case acks.AckRefusal.FENCED:
                raise _fenced()

    async def nack(
        self,
        workspace_id: UUID,
        seq: int,
        *,
        delay: float = 0.0,
        reason: str = "",
        epoch: int | None = None,
        generation: str = "",
    ) -> acks.Nacked:
        """Give an item back, for `delay` seconds and at most a day. The fifth time it is poison.

        Raises:
            Conflict: FENCED, `epoch` is not the session that holds the inbox.
            OutOfRange: CURSOR_UNKNOWN, the number is of another generation.
            NotFound: ITEM_NOT_FOUND, there is no such undone item.
        """
        # A client that leaves now does not break the giving back off before its report.
        return await finish(
            self._nack(
                workspace_id, seq, delay=delay, reason=reason, epoch=epoch, generation=generation
            ),
            wait_limit=_LAST_SECONDS,
        )

    async def _nack(
        self,
        workspace_id: UUID,
        seq: int,
        *,
        delay: float,
        reason: str,
        epoch: int | None,
        generation: str,
    ) -> acks.Nacked:
        async with self._pool.acquire() as conn:
            session = await leases.newest_session(conn, workspace_id)
            starts.require_generation(generation, session.generation)
            if epoch not in (None, session.epoch):
                raise _fenced()
            nacked = await acks.nack(
                conn,
                workspace_id,
                seq,
                delay=rules.nack_delay(delay),
                reason=clean(reason),
                epoch=epoch,
                generation=generation or None,
            )
        if nacked is None:
            raise NotFound("no undone item of this number", reason="ITEM_NOT_FOUND")
        if nacked.poisoned:
            await self.report_poisoned(workspace_id, [nacked])
        self._wakeups.wake([workspace_id])
        return nacked

    async def report_poisoned(self, workspace_id: UUID, items: Sequence[acks.Nacked]) -> None:
        """Items were set aside: the delegations they carried fail, and the mark moves over them."""
        for item in items:
            if item.method == "delegate" and item.delegation_id is not None:
                await self._on_poisoned(workspace_id, item.delegation_id)
        if items:
            await self._reads.ack(acks.Ack(workspace_id, 0, (), None))


def _pulled(
    query: reads.InboxQuery, page: reads.InboxPage, items: list[reads.InboxRow]
) -> PulledInbox:
    return PulledInbox(
        items=items,
        prev_seq=max(query.after, page.acked_seq),
        head_seq=page.head_seq,
        acked_seq=page.acked_seq,
        oldest_seq=page.oldest_seq,
        generation=page.generation,
    )


def _fenced() -> Conflict:
    return Conflict("a newer session holds this inbox", reason="FENCED")
