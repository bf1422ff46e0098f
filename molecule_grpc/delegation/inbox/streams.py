"""Opening streams of an inbox: with its lease or without, and acting on the consumer's frames."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator
from uuid import UUID

from prometheus_client import Counter

from molecule_grpc.db.pool import Pool, translate
from molecule_grpc.db.wakeups import Wakeups
from molecule_grpc.delegation.inbox import frames, starts
from molecule_grpc.delegation.inbox.frames import ClientFrame, Frame, Gap, Hello, StartPosition
from molecule_grpc.delegation.inbox.inbox import Inbox
from molecule_grpc.delegation.inbox.open_inboxes import OpenInboxes
from molecule_grpc.delegation.inbox.reads import InboxReads
from molecule_grpc.delegation.inbox.store import leases, reads
from molecule_grpc.delegation.inbox.stream import InboxStream
from molecule_grpc.delegation.inbox.window import Window
from molecule_grpc.kernel.errors import Aborted, Invalid, MoleculeError
from molecule_grpc.kernel.ids import identifier
from molecule_grpc.kernel.metered import charged
from molecule_grpc.server.streams import StreamGuards
from molecule_grpc.settings.inbox import InboxSettings

DEFAULT_WINDOW = 16
_SILENCE_SECONDS = 45.0
_FENCED = Counter("molecule_inbox_fenced_total", "Sessions that another consumer took over.")


class InboxStreams:
    """Opens the streams of inboxes; a stream with a lease makes its client the one consumer.

    `authorization` is the header that the caller sent: the stream ends when its token is revoked.
    """

    def __init__(
        self,
        pool: Pool,
        inbox: Inbox,
        reads_: InboxReads,
        open_inboxes: OpenInboxes,
        wakeups: Wakeups,
        guards: StreamGuards,
        settings: InboxSettings,
    ) -> None:
        self._pool = pool
        self._inbox = inbox
        self._reads = reads_
        self._open_inboxes = open_inboxes
        self._wakeups = wakeups
        self._guards = guards
        self._lease_seconds = settings.lease
        self._silence = max(_SILENCE_SECONDS, 3 * settings.beat)

    async def read(
        self,
        workspace_id: UUID,
        start: StartPosition,
        *,
        max_in_flight: int | None = None,
        authorization: str | None,
    ) -> AsyncGenerator[Frame, None]:
        """Read an inbox without taking it. The first frame is a Welcome.

        Raises:
            OutOfRange: CURSOR_AHEAD, CURSOR_PRUNED or CURSOR_UNKNOWN, before the first frame.
            MoleculeError: as `InboxStream.frames`.
        """
        with (
            self._wakeups.watch(workspace_id) as flag,
            self._guards.watch_token(flag, authorization) as guard,
        ):
            page = await self._reads.look(reads.InboxQuery(workspace_id, 0, 0))
            after, gap = await self._start(start, workspace_id, page)
            stream = InboxStream(workspace_id, self._reads, guard, Window(after, max_in_flight))
            with self._open_inboxes.attend(stream):
                yield _welcome(page, after, epoch=0)
                if gap is not None:
                    yield gap
                async with contextlib.aclosing(self._frames(stream)) as opened:
                    async for frame in opened:
                        yield frame

    async def consume(
        self,
        hello: Hello,
        client_frames: AsyncIterator[ClientFrame],
        *,
        authorization: str | None,
    ) -> AsyncGenerator[Frame, None]:
        """Take the lease of an inbox and read it. The first frame is a Welcome.

        Raises:
            Aborted: INBOX_BUSY, before the first frame.
            OutOfRange: CURSOR_AHEAD, CURSOR_PRUNED or CURSOR_UNKNOWN, before the first frame.
            MoleculeError: as `InboxStream.frames`, and what is wrong with the client's frames.
        """
        workspace_id = hello.workspace_id
        with (
            self._wakeups.watch(workspace_id) as flag,
            self._guards.watch_token(flag, authorization) as guard,
        ):
            page = await self._reads.look(reads.InboxQuery(workspace_id, 0, 0))
            after, gap = await self._start(hello.start, workspace_id, page)
            window = Window(after, hello.max_in_flight, hello.initial_credit)
            stream = InboxStream(workspace_id, self._reads, guard, window, silence=self._silence)
            taking = asyncio.ensure_future(self._take(hello, after, stream))
            try:
                # A client that leaves now does not break the taking off half-way.
                lease = await asyncio.shield(taking)
                with self._open_inboxes.attend(stream):
                    yield _welcome(_as_taken(page, lease), after, epoch=lease.epoch)
                    if gap is not None:
                        yield gap
                    listening = asyncio.create_task(charged(self._listen(stream, client_frames)))
                    try:
                        async with contextlib.aclosing(self._frames(stream)) as opened:
                            async for frame in opened:
                                yield frame
                    finally:
                        listening.cancel()
            finally:
                await self._release(stream, taking)

    # The start and the lease.

    async def _start(
        self, start: StartPosition, workspace_id: UUID, page: reads.InboxPage
    ) -> tuple[int, Gap | None]:
        """The item that a stream starts after; and what the stream leaves out."""
        if start.after_seq is not None:
            starts.require_generation(start.generation, page.generation)
            return starts.after_cursor(start.after_seq, page, allow_gap=start.allow_gap)
        first = None
        if start.since_seconds is not None and not start.from_now:
            first = await reads.first_since(self._pool, workspace_id, start.since_seconds)
        after = starts.after_mark(start, page, first)
        return after, starts.skipped(after, page)

    async def _take(self, hello: Hello, after: int, stream: InboxStream) -> leases.Lease:
        """Take the lease for a session that starts after this item; the stream gets its number.

        Raises:
            Aborted: INBOX_BUSY, another consumer holds it.
        """
        workspace_id = hello.workspace_id
        async with self._pool.acquire() as conn, conn.transaction():
            taken, poisoned = await leases.take(
                conn,
                workspace_id,
                identifier(hello.consumer_id, "hello.consumer_id"),
                seconds=self._lease_seconds,
                window=hello.max_in_flight,
                after=after,
                takeover=hello.takeover,
                resumes_epoch=hello.resumes_epoch,
            )
            if isinstance(taken, leases.Held):
                raise Aborted(
                    "another consumer holds this inbox",
                    reason="INBOX_BUSY",
                    metadata={"holder": taken.holder, "age_seconds": f"{taken.age:.0f}"},
                )
        stream.epoch = taken.epoch
        await self._inbox.report_poisoned(workspace_id, poisoned)
        self._wakeups.wake([workspace_id])  # an earlier session finds its lease gone
        return taken

    async def _release(self, stream: InboxStream, taking: asyncio.Future[leases.Lease]) -> None:
        """Leave the inbox in good order, whoever ends the stream, also when this is cancelled."""
        with contextlib.suppress(Exception):
            await asyncio.shield(asyncio.ensure_future(self._give_back(stream, taking)))

    async def _give_back(self, stream: InboxStream, taking: asyncio.Future[leases.Lease]) -> None:
        # However the taking ended, the stream has a number if a lease was taken.
        await asyncio.gather(taking, return_exceptions=True)
        if stream.epoch == 0:
            return
        in_flight = sorted(stream.window.in_flight)
        await leases.release(
            self._pool,
            stream.workspace_id,
            stream.epoch,
            sent_seqs=in_flight,
            lost_by_client=bool(in_flight) and not (stream.blameless or stream.draining),
        )

    # Frames in both directions.

    async def _frames(self, stream: InboxStream) -> AsyncGenerator[Frame, None]:
        """The stream's frames, with a Fenced where another consumer took the inbox over."""
        try:
            async with contextlib.aclosing(stream.frames()) as opened:
                async for frame in opened:
                    yield frame
            stream.blameless = True
        except Exception as error:
            known = error if isinstance(error, MoleculeError) else translate(error)
            if known is None:
                raise
            stream.blameless = stream.error is None and known.reason != "SLOW_CONSUMER"
            if known.reason == "FENCED":
                _FENCED.inc()
                yield frames.Fenced(await leases.holder(self._pool, stream.workspace_id))
            raise known from error

    async def _listen(self, stream: InboxStream, client_frames: AsyncIterator[ClientFrame]) -> None:
        """Act on the client's frames, one after the other."""
        try:
            async for frame in client_frames:
                stream.heard_at = time.monotonic()
                await self._act(stream, frame)
                while stream.crowded:  # noqa: ASYNC110  (rare, and nobody is told)
                    await asyncio.sleep(0.05)
            stream.left = True
        except Exception as error:  # noqa: BLE001  (the stream ends with this error)
            stream.error = error
        stream.wake()

    async def _act(self, stream: InboxStream, frame: ClientFrame) -> None:
        match frame:
            case frames.AckFrame():
                await self._act_on_ack(stream, frame)
            case frames.NackFrame(seq, delay, reason):
                nacked = await self._inbox.nack(
                    stream.workspace_id, seq, delay=delay, reason=reason, epoch=stream.epoch
                )
                stream.window.given_back(seq)
                stream.reply(frames.NackResult(seq, nacked.deliveries, nacked.poisoned))
            case frames.CreditFrame(items):
                stream.window.grant(items)
                stream.wake()
            case frames.HeartbeatFrame(beat):
                stream.reply(frames.HeartbeatResult(await beat()))
            case frames.PongFrame():
                pass

    async def _act_on_ack(self, stream: InboxStream, frame: frames.AckFrame) -> None:
        highest = max(frame.up_to, *frame.seqs, 0)
        if highest > stream.window.highest_delivered:
            raise Invalid(
                f"item {highest} was not delivered in this session",
                field="ack",
                reason="ACK_NOT_DELIVERED",
            )
        done = await self._inbox.ack_in_session(
            stream.workspace_id, frame.up_to, frame.seqs, stream.epoch
        )
        stream.window.done(done.acked_seq, frame.seqs)
        stream.reply(frames.AckResult(done.acked_seq, done.head_seq))


def _as_taken(page: reads.InboxPage, lease: leases.Lease) -> reads.InboxPage:
    """The page as the lease found the inbox, a moment after it was read."""
    return page._replace(
        generation=str(lease.generation), head_seq=lease.head_seq, acked_seq=lease.acked_seq
    )


def _welcome(page: reads.InboxPage, after: int, *, epoch: int) -> frames.Welcome:
    return frames.Welcome(
        generation=page.generation,
        session_epoch=epoch,
        head_seq=page.head_seq,
        acked_seq=page.acked_seq,
        oldest_seq=page.oldest_seq,
        starts_after=after,
    )
