"""The inbox' use cases: streaming it, pulling from it, acks and nacks."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import TypeVar
from uuid import UUID

from moleculeai.delegation.v1 import delegation_service_pb2 as pb
from moleculeai.delegation.v1 import inbox_pb2

from molecule_grpc.auth.authenticator import Authenticator
from molecule_grpc.auth.policy import CALLER
from molecule_grpc.db.pool import Pool, translate
from molecule_grpc.db.wakeups import Wakeups
from molecule_grpc.delegation import convert
from molecule_grpc.delegation.inbox import rules
from molecule_grpc.delegation.inbox.reads import InboxReads
from molecule_grpc.delegation.inbox.session import Frame, Session
from molecule_grpc.delegation.inbox.sessions import Sessions, count_fenced
from molecule_grpc.delegation.inbox.store import inbox
from molecule_grpc.delegation.inbox.stream import Limits, Stream
from molecule_grpc.delegation.ledger.ledger import Ledger
from molecule_grpc.delegation.ledger.rules import Status
from molecule_grpc.delegation.ledger.writes import LedgerWrites
from molecule_grpc.delegation.ports import Heartbeat
from molecule_grpc.kernel.errors import (
    Aborted,
    Conflict,
    Invalid,
    MoleculeError,
    NotFound,
    OutOfRange,
    Unauthenticated,
)
from molecule_grpc.kernel.text import clean
from molecule_grpc.server.call import Call
from molecule_grpc.server.status import render
from molecule_grpc.settings.settings import Settings

_DEFAULT_WINDOW = 16
_DEFAULT_PULL = 20
_LOOK_SECONDS = 5.0
_SILENCE_SECONDS = 45.0


class Inbox:
    """Gives workspaces what they must act on."""

    def __init__(  # noqa: PLR0917  (fewer when the objects of an inbox become one)
        self,
        pool: Pool,
        writes: LedgerWrites,
        reads: InboxReads,
        wakeups: Wakeups,
        authenticator: Authenticator,
        sessions: Sessions,
        ledger_: Ledger,
        heartbeat: Heartbeat,
        settings: Settings,
    ) -> None:
        self._pool = pool
        self._writes = writes
        self._reads = reads
        self._wakeups = wakeups
        self._authenticator = authenticator
        self._sessions = sessions
        self._ledger = ledger_
        self._heartbeat = heartbeat
        self._lease_seconds = settings.inbox.lease
        self._limits = Limits(
            beat=settings.inbox.beat,
            silence=max(_SILENCE_SECONDS, 3 * settings.inbox.beat),
            max_age=settings.inbox.max_age,
        )

    async def stream(
        self, request: pb.StreamInboxRequest, call: Call
    ) -> AsyncIterator[pb.StreamInboxResponse]:
        """Read an inbox without taking it."""
        workspace_id = UUID(request.workspace_id)
        with self._wakeups.watch(workspace_id) as flag:
            page = await self._reads.look(inbox.InboxQuery(workspace_id, 0, 0))
            after, gap = await self._start(request.start, workspace_id, page)
            session = Session(
                workspace_id,
                flag,
                cursor=after,
                window=request.max_in_flight or None,
                first_sent_after=after,
            )
            with self._attended(session, call):
                yield pb.StreamInboxResponse(welcome=_welcome(page, epoch=0))
                if gap is not None:
                    yield pb.StreamInboxResponse(gap=gap)
                async for frame in self._frames(session, call):
                    yield _wrapped(pb.StreamInboxResponse(), frame)

    async def subscribe(
        self, requests: AsyncIterator[pb.SubscribeInboxRequest], call: Call
    ) -> AsyncIterator[pb.SubscribeInboxResponse]:
        """Hold an inbox as its one consumer."""
        first = await anext(requests)
        if first.WhichOneof("frame") != "hello":
            raise Invalid("the first frame must be a hello", field="hello")
        hello = first.hello
        workspace_id = UUID(hello.workspace_id)
        window = hello.max_in_flight or _DEFAULT_WINDOW
        with self._wakeups.watch(workspace_id) as flag:
            page = await self._reads.look(inbox.InboxQuery(workspace_id, 0, 0))
            after, gap = await self._start(hello.start, workspace_id, page)
            lease = await self._take(workspace_id, hello, window, after)
            session = Session(
                workspace_id,
                flag,
                cursor=after,
                window=window,
                epoch=lease.epoch,
                credit=hello.initial_credit if hello.HasField("initial_credit") else None,
                consumer=hello.consumer_id,
                first_sent_after=after,
            )
            try:
                with self._attended(session, call):
                    page = page._replace(
                        generation=str(lease.generation),
                        head_seq=lease.head_seq,
                        acked_seq=lease.acked_seq,
                    )
                    yield pb.SubscribeInboxResponse(welcome=_welcome(page, epoch=lease.epoch))
                    if gap is not None:
                        yield pb.SubscribeInboxResponse(gap=gap)
                    listening = asyncio.create_task(self._listen(session, requests))
                    try:
                        async for frame in self._frames(session, call):
                            yield _wrapped(pb.SubscribeInboxResponse(), frame)
                    finally:
                        listening.cancel()
            finally:
                await self._release(session)

    async def pull(self, request: pb.PullInboxRequest, call: Call) -> pb.PullInboxResponse:
        """Undone items, waiting for the first one if asked to."""
        workspace_id = UUID(request.workspace_id)
        left = call.remaining()
        wait_limit = request.wait_seconds if left is None else min(request.wait_seconds, left)
        end = time.monotonic() + wait_limit
        want = inbox.InboxQuery(workspace_id, request.after_seq, request.limit or _DEFAULT_PULL)
        with self._wakeups.watch(workspace_id) as flag, self._sessions.attend(flag):
            while True:
                flag.clear()
                page = await self._reads.look(want)
                self._require_cursor(request, page)
                rest = end - time.monotonic()
                # Items given back come by themselves: a pull is a look at what is undone.
                items = sorted(page.items, key=lambda row: row.seq)[: want.limit]
                if request.HasField("after_seq"):
                    items = [row for row in items if row.seq > request.after_seq]
                if items or rest <= 0 or self._sessions.draining:
                    return _pulled(page, items, request.after_seq)
                await flag.wait(min(rest, page.retry_in or _LOOK_SECONDS, _LOOK_SECONDS))

    async def ack(self, request: pb.AckInboxRequest) -> pb.AckInboxResponse:
        """Mark items as done."""
        workspace_id = UUID(request.workspace_id)
        seqs = set(request.seqs)
        if request.activity_ids:
            ids = [UUID(text) for text in request.activity_ids]
            seqs.update(await inbox.seqs_of(self._pool, workspace_id, ids))
        epoch = request.session_epoch if request.HasField("session_epoch") else None
        done = await self._ack(workspace_id, request.up_to_seq, tuple(sorted(seqs)), epoch)
        self._wakeups.wake([workspace_id])
        return pb.AckInboxResponse(
            acked_seq=done.acked_seq, head_seq=done.head_seq, removed=done.marked
        )

    async def nack(self, request: pb.NackInboxRequest) -> pb.NackInboxResponse:
        """Give an item back."""
        epoch = request.session_epoch if request.HasField("session_epoch") else None
        delay = request.retry_after.ToNanoseconds() / 1e9
        nacked = await self._nack(
            UUID(request.workspace_id), request.seq, delay, request.reason, epoch
        )
        return pb.NackInboxResponse(
            seq=request.seq, deliveries=nacked.deliveries, poisoned=nacked.poisoned
        )

    # How a session lives.

    @contextlib.contextmanager
    def _attended(self, session: Session, call: Call) -> Iterator[None]:
        """Renew its lease, tell it of a drain, doubt its token when one may be revoked."""

        def doubt() -> None:
            session.doubted = True
            session.flag.set()

        authorization = call.metadata.get("authorization")
        with self._sessions.open(session), self._authenticator.watch(authorization, doubt):
            yield

    async def _frames(self, session: Session, call: Call) -> AsyncIterator[Frame]:
        """The session's frames, with the final one that says why it ended."""

        async def authorize() -> None:
            await self._authenticator.identify(CALLER, call.metadata.get("authorization"))

        stream = Stream(session, self._reads, self._limits, authorize)
        try:
            async for frame in stream.frames():
                yield frame
            session.over = True
        except Exception as error:
            known = error if isinstance(error, MoleculeError) else translate(error)
            if known is None:
                raise
            session.over = session.error is None and known.reason != "SLOW_CONSUMER"
            if known.reason == "FENCED":
                count_fenced()
                yield inbox_pb2.Fenced(holder=await inbox.holder(self._pool, session.workspace_id))
            failure = render(known)
            yield inbox_pb2.End(
                code=int(failure.code),
                reason=failure.reason,
                message=failure.message,
                last_seq=session.last_sent or session.first_sent_after,
            )
            raise known from error

    async def _listen(
        self, session: Session, requests: AsyncIterator[pb.SubscribeInboxRequest]
    ) -> None:
        """Act on the client's frames, one after the other."""
        try:
            async for request in requests:
                await self._act(session, request)
                while session.crowded:  # noqa: ASYNC110  (rare, and nobody is told)
                    await asyncio.sleep(0.05)
            session.left = True
        except Exception as error:  # noqa: BLE001  (the session ends with it)
            session.error = error
        session.flag.set()

    async def _act(self, session: Session, request: pb.SubscribeInboxRequest) -> None:
        session.heard = time.monotonic()
        match request.WhichOneof("frame"):
            case "ack":
                await self._session_ack(session, request.ack)
            case "nack":
                await self._session_nack(session, request.nack)
            case "credit":
                if session.credit is not None:
                    session.credit += request.credit.n
                    session.flag.set()
            case "heartbeat":
                if request.heartbeat.workspace_id.lower() != str(session.workspace_id):
                    raise Unauthenticated("invalid workspace auth token")
                session.reply(await self._heartbeat(request.heartbeat))
            case "pong":
                pass
            case _:
                raise Invalid("hello must be the first frame, and only that", field="hello")

    async def _session_ack(self, session: Session, ack: inbox_pb2.Ack) -> None:
        highest = max([ack.up_to_seq, *ack.seqs])
        if highest > max(session.last_sent, session.acked, session.first_sent_after):
            raise Invalid(
                f"item {highest} was not delivered in this session",
                field="ack",
                reason="ACK_NOT_DELIVERED",
            )
        done = await self._ack(session.workspace_id, ack.up_to_seq, tuple(ack.seqs), session.epoch)
        session.done(done.acked_seq, tuple(ack.seqs))
        session.reply(inbox_pb2.AckResult(acked_seq=done.acked_seq, head_seq=done.head_seq))

    async def _session_nack(self, session: Session, nack: inbox_pb2.Nack) -> None:
        delay = nack.retry_after.ToNanoseconds() / 1e9
        nacked = await self._nack(session.workspace_id, nack.seq, delay, nack.reason, session.epoch)
        session.given_back(nack.seq)
        session.reply(
            inbox_pb2.NackResult(
                seq=nack.seq, deliveries=nacked.deliveries, poisoned=nacked.poisoned
            )
        )

    # Steps.

    async def _take(
        self, workspace_id: UUID, hello: pb.SubscribeInboxRequest.Hello, window: int, after: int
    ) -> inbox.Lease:
        async with self._pool.acquire() as conn, conn.transaction():
            lease, poisoned = await inbox.take_lease(
                conn,
                workspace_id,
                clean(hello.consumer_id),
                seconds=self._lease_seconds,
                window=window,
                after=after,
                takeover=hello.takeover,
                resumes_epoch=hello.resumes_epoch if hello.HasField("resumes_epoch") else None,
            )
            if isinstance(lease, inbox.Held):
                raise Aborted(
                    "another consumer holds this inbox",
                    reason="INBOX_BUSY",
                    metadata={"holder": lease.holder, "age_seconds": f"{lease.age:.0f}"},
                )
        for item in poisoned:
            await self._poison(workspace_id, item)
        if poisoned:
            await self._ack(workspace_id, 0, (), None)
        self._wakeups.wake([workspace_id])  # the session before learns that it is fenced
        return lease

    async def _release(self, session: Session) -> None:
        """Leave in good order, whoever ends the stream."""
        lost = not (session.over or session.draining or self._sessions.draining)
        release = inbox.release_lease(
            self._pool,
            session.workspace_id,
            session.epoch,
            sent_seqs=sorted(session.in_flight),
            lost_by_client=lost and bool(session.in_flight),
        )
        with contextlib.suppress(Exception):
            await asyncio.shield(asyncio.ensure_future(release))

    async def _ack(
        self, workspace_id: UUID, up_to: int, seqs: tuple[int, ...], epoch: int | None
    ) -> inbox.Acked:
        done = await self._reads.ack(inbox.Ack(workspace_id, up_to, seqs, epoch))
        if done is None:
            raise Conflict("a newer session holds this inbox", reason="FENCED")
        return done

    async def _nack(
        self, workspace_id: UUID, seq: int, delay: float, reason: str, epoch: int | None
    ) -> inbox.Nacked:
        async with self._pool.acquire() as conn:
            if epoch is not None and await inbox.lease_epoch(conn, workspace_id) != epoch:
                raise Conflict("a newer session holds this inbox", reason="FENCED")
            nacked = await inbox.nack(
                conn,
                workspace_id,
                seq,
                delay=rules.nack_delay(delay),
                reason=clean(reason),
                epoch=epoch,
            )
        if nacked is None:
            raise NotFound("no undone item of this number", reason="ITEM_NOT_FOUND")
        if nacked.poisoned:
            await self._poison(workspace_id, nacked)
            await self._ack(workspace_id, 0, (), None)
        self._wakeups.wake([workspace_id])
        return nacked

    async def _poison(self, workspace_id: UUID, item: inbox.Nacked) -> None:
        """An item was set aside: the work it carried fails, and its caller hears of it."""
        if item.method == "delegate" and item.delegation_id is not None:
            move = self._ledger.draft_move(
                item.delegation_id,
                workspace_id,
                Status.FAILED,
                error="the item that carried this task failed 5 times",
                reason="poisoned",
            )
            await self._writes.move(move)

    async def _start(
        self, start: inbox_pb2.StartPosition, workspace_id: UUID, page: inbox.InboxPage
    ) -> tuple[int, inbox_pb2.Gap | None]:
        """Where a stream begins: strictly after this item; and what it leaves out."""
        if start.HasField("after_seq"):
            _require_generation(start.generation, page)
            return _after(start, page)
        after = page.acked_seq
        if start.from_now:
            after = page.head_seq
        elif start.HasField("since_seconds"):
            first = await inbox.first_since(self._pool, workspace_id, start.since_seconds)
            after = page.head_seq if first is None else max(first - 1, page.acked_seq)
        gap = None
        if after > page.acked_seq:
            gap = inbox_pb2.Gap(
                from_seq=page.acked_seq + 1, to_seq=after, reason=inbox_pb2.Gap.skipped
            )
        return after, gap

    def _require_cursor(self, request: pb.PullInboxRequest, page: inbox.InboxPage) -> None:
        if request.HasField("after_seq"):
            _after(inbox_pb2.StartPosition(after_seq=request.after_seq), page)


def _after(
    start: inbox_pb2.StartPosition, page: inbox.InboxPage
) -> tuple[int, inbox_pb2.Gap | None]:
    place = {"oldest_seq": str(page.oldest_seq), "head_seq": str(page.head_seq)}
    if start.after_seq > page.head_seq:
        raise OutOfRange(
            "the cursor lies beyond the newest item", reason="CURSOR_AHEAD", metadata=place
        )
    if start.after_seq < page.oldest_seq - 1:
        if not start.allow_gap:
            raise OutOfRange(
                "the items after this cursor were pruned; start without a cursor",
                reason="CURSOR_PRUNED",
                metadata=place,
            )
        gap = inbox_pb2.Gap(
            from_seq=start.after_seq + 1, to_seq=page.oldest_seq - 1, reason=inbox_pb2.Gap.pruned
        )
        return page.oldest_seq - 1, gap
    return start.after_seq, None


def _require_generation(generation: str, page: inbox.InboxPage) -> None:
    if generation and generation != str(page.generation):
        raise OutOfRange(
            "the cursor belongs to another generation of this inbox", reason="CURSOR_UNKNOWN"
        )


def _welcome(page: inbox.InboxPage, *, epoch: int) -> inbox_pb2.Welcome:
    welcome = inbox_pb2.Welcome(
        generation=str(page.generation),
        session_epoch=epoch,
        head_seq=page.head_seq,
        acked_seq=page.acked_seq,
        oldest_seq=page.oldest_seq,
    )
    welcome.server_time.GetCurrentTime()
    return welcome


_FIELDS = {
    "InboxItem": "item",
    "Gap": "gap",
    "Beat": "beat",
    "AckResult": "ack_result",
    "NackResult": "nack_result",
    "HeartbeatResponse": "heartbeat_result",
    "Drain": "drain",
    "Fenced": "fenced",
    "End": "end",
}


Response = TypeVar("Response", pb.StreamInboxResponse, pb.SubscribeInboxResponse)


def _wrapped(response: Response, frame: Frame) -> Response:
    getattr(response, _FIELDS[type(frame).__name__]).CopyFrom(frame)
    return response


def _pulled(page: inbox.InboxPage, items: list[inbox.InboxRow], after: int) -> pb.PullInboxResponse:
    response = pb.PullInboxResponse(
        head_seq=page.head_seq,
        acked_seq=page.acked_seq,
        oldest_seq=page.oldest_seq,
        generation=str(page.generation),
    )
    prev = max(after, page.acked_seq)
    for row in items:
        response.items.append(convert.item(row, prev))
        prev = row.seq
    return response
