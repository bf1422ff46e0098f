"""Holds an inbox while its reader lives: reconnects, recognises repeats, acks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self

from google.protobuf import json_format
from moleculeai.delegation.v1 import delegation_service_pb2 as pb
from moleculeai.delegation.v1 import inbox_pb2

from molecule_grpc.client import errors
from molecule_grpc.client.connection import Connection, version
from molecule_grpc.client.items import Item, text_of
from molecule_grpc.client.retry import Backoff, ends_for_good
from molecule_grpc.client.session import BuildHeartbeat, Drained, Session

log = logging.getLogger(__name__)

_REMEMBERED = 4096
_RETRY_AFTER_SECONDS = 5.0
_ACKS_IN_A_CALL = 1000
# Session of an item that the inbox may not know, since it was restored from a backup.
_LOST = -1


class Inbox:
    """The items of one workspace, in order, for ever. Made by `Agent.inbox`.

    `async for` acks an item when it asks for the next one. A loop that is left, by `break` or by
    an error, leaves its current item undone, so that the item comes again: call `await item.ack()`
    before a `break`. Inside `async with inbox`, an error gives the item back with its reason, to
    come again after 5 s.

    The inbox resumes by itself after every interruption that may pass. The others are raised in
    the loop.

    Raises:
        InboxBusy: another consumer holds the inbox.
        Fenced: another consumer took the inbox over.
        Unauthenticated: the token is not valid, or not any more.
        NotFound: the workspace is gone.
    """

    def __init__(
        self,
        connection: Connection,
        workspace_id: str,
        *,
        consumer_id: str,
        max_in_flight: int = 16,
        takeover: bool = False,
        heartbeat: BuildHeartbeat | None = None,
        heartbeat_every: float = 20.0,
        on_close: Callable[[Inbox], None] | None = None,
    ) -> None:
        self._connection = connection
        self._workspace_id = workspace_id
        self._consumer_id = consumer_id
        self._max_in_flight = max_in_flight
        self._takeover = takeover
        self._heartbeat = heartbeat
        self._heartbeat_every = heartbeat_every
        self._on_close = on_close
        self._session: Session | None = None
        self._epoch: int | None = None
        self._generation = ""
        self._runner: asyncio.Task[None] | None = None
        self._arrived: asyncio.Queue[inbox_pb2.InboxItem | Exception] = asyncio.Queue()
        self._current: Item | None = None
        self._waiting = 0
        self._credit = 0
        self._open: dict[str, Item] = {}
        self._done: OrderedDict[str, None] = OrderedDict()
        self._unconfirmed: set[int] = set()

    @property
    def open_items(self) -> tuple[Item, ...]:
        """Items that were handed out, and neither acked nor nacked yet."""
        return tuple(self._open.values())

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception) and self._current is not None:
            await self.nack(self._current, retry_after=_RETRY_AFTER_SECONDS, reason=f"{error!r}")
        await self.close()

    async def __aiter__(self) -> AsyncIterator[Item]:
        try:
            while True:
                self._current = await self.next()
                yield self._current
                await self.ack(self._current)
        finally:
            await self.close()

    async def next(self) -> Item:
        """The next item; waits for one. The caller must ack or nack the item.

        Raises:
            CallError: the inbox ended: one of the errors of the class.
        """
        self._start()
        while True:
            arrived = await self._wait_for_arrival()
            if isinstance(arrived, Exception):
                self._arrived.put_nowait(arrived)  # the next call raises the same
                raise arrived
            item = Item.read(arrived, self, self._epoch or 0)
            self._open[item.message_id] = item
            if not arrived.body_ref:
                return item
            try:
                await self._fetch_body(item, arrived.body_ref)
            except errors.CallError as error:
                await self.nack(item, retry_after=_RETRY_AFTER_SECONDS, reason=str(error))
            else:
                return item

    async def ack(self, item: Item) -> None:
        """Mark an item as done: it never comes again. A second ack of an item does nothing."""
        if self._open.pop(item.message_id, None) is None:
            return
        self._done[item.message_id] = None
        if len(self._done) > _REMEMBERED:
            self._done.popitem(last=False)
        self._ack(item)

    async def nack(self, item: Item, *, retry_after: float = 0.0, reason: str = "") -> None:
        """Give an item back, to come again after `retry_after` seconds.

        Args:
            reason: kept with the item, at most 1000 bytes of it. The fifth failed delivery makes
                the item poison: operators see it with the last reason.
        """
        if self._open.pop(item.message_id, None) is None:
            return
        if self._session is not None and item.epoch == self._session.epoch:
            self._session.nack(item.seq, retry_after=retry_after, reason=reason)

    async def close(self) -> None:
        """Leave the inbox: acks are confirmed (up to 3 s each 1000), undone items come again."""
        if self._on_close is not None:
            self._on_close(self)
        runner, self._runner = self._runner, None
        if runner is None:
            return
        await self._confirm_acks()
        if self._session is not None and not runner.done():
            await self._session.leave()
        runner.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await runner

    async def _wait_for_arrival(self) -> inbox_pb2.InboxItem | Exception:
        self._waiting += 1
        self._ask()
        try:
            return await self._arrived.get()
        finally:
            self._waiting -= 1

    def _ask(self) -> None:
        """Let the server send as many items as callers of `next` wait for, and no more.

        A sent item counts as delivered, and five failed deliveries make poison: an item that kills
        its agent must not poison others that were only waiting in the client.
        """
        missing = self._waiting - self._arrived.qsize() - self._credit
        if missing > 0 and self._session is not None:
            self._session.credit(missing)
            self._credit += missing

    def _start(self) -> None:
        if self._runner is None:
            self._runner = asyncio.create_task(self._run(), name=f"inbox {self._workspace_id}")

    async def _run(self) -> None:
        backoff = Backoff(first=0.5, most=30.0)
        try:
            while True:
                await self._hold_and_rest(backoff)
        except Exception as error:  # noqa: BLE001  (`next` raises it)
            self._forget_waiting()
            self._arrived.put_nowait(error)

    async def _hold_and_rest(self, backoff: Backoff) -> None:
        """Hold a session until its end, then pause before the next.

        Raises:
            CallError: another session would meet the same answer.
        """
        try:
            await self._hold(backoff)
        except Drained as drain:
            await asyncio.sleep(drain.seconds)
        except errors.CallError as error:
            if ends_for_good(error):
                raise
            log.info("inbox interrupted, it will go on: %s", error)
            await self._connection.pause(backoff)

    async def _hold(self, backoff: Backoff) -> None:
        self._forget_waiting()
        hello = pb.SubscribeInboxRequest.Hello(
            workspace_id=self._workspace_id,
            consumer_id=self._consumer_id,
            max_in_flight=self._max_in_flight,
            takeover=self._takeover,
            client_version=f"molecule-grpc {version()}",
        )
        # The server sends open items again first: only items that this session sent can be acked.
        self._credit = hello.initial_credit = self._waiting + len(self._open)
        if self._epoch is not None:
            hello.resumes_epoch = self._epoch
        self._session = session = Session(self._connection, hello)
        frames = session.frames(self._heartbeat, self._heartbeat_every)
        try:
            async for frame in frames:
                if frame.HasField("welcome"):
                    backoff.reset()
                    self._enter(frame.welcome.generation)
                    self._epoch = session.epoch
                    self._takeover = False  # once, or two consumers would take turns for ever
                    self._confirmed(frame.welcome.acked_seq)
                    await self._confirm_acks()
                elif frame.HasField("item"):
                    self._receive(frame.item)
                elif frame.HasField("ack_result"):
                    self._confirmed(frame.ack_result.acked_seq)
        finally:
            self._session = None
            await frames.aclose()  # type: ignore[attr-defined]

    def _enter(self, generation: str) -> None:
        """Forget numbers of another generation: they may name other items now.

        The inbox was restored from a backup. An item in hand is done when its message comes again.
        """
        if self._generation and generation != self._generation:
            log.warning("the inbox was restored from a backup: items may come again")
            self._unconfirmed.clear()
            for item in self._open.values():
                item.epoch = _LOST
        self._generation = generation

    def _receive(self, frame: inbox_pb2.InboxItem) -> None:
        """Queue an item for `next`, unless the item is open, or was done before."""
        self._credit -= 1
        item = self._open.get(frame.message_id)
        if item is not None:
            item.epoch = self._epoch or 0
        elif frame.message_id in self._done:
            self._ack(Item.read(frame, self, self._epoch or 0))
        else:
            self._arrived.put_nowait(frame)
        self._ask()

    def _ack(self, item: Item) -> None:
        if item.epoch == _LOST:
            return
        self._unconfirmed.add(item.seq)
        # A session takes acks of its own items. An item of an earlier session comes again, and is
        # acked then.
        if self._session is not None and item.epoch == self._session.epoch:
            self._session.ack(item.seq)

    def _forget_waiting(self) -> None:
        """Drop received items that nobody took: they come again in the next session."""
        while not self._arrived.empty():
            self._arrived.get_nowait()

    def _confirmed(self, acked_seq: int) -> None:
        self._unconfirmed = {seq for seq in self._unconfirmed if seq > acked_seq}

    async def _confirm_acks(self) -> None:
        """Repeat the acks that the server has not confirmed. Failures are logged only."""
        seqs = sorted(self._unconfirmed)
        stub = self._connection.delegations.AckInbox
        for start in range(0, len(seqs), _ACKS_IN_A_CALL):
            request = pb.AckInboxRequest(
                workspace_id=self._workspace_id,
                seqs=seqs[start : start + _ACKS_IN_A_CALL],
                session_epoch=self._epoch,
                generation=self._generation,
            )
            try:
                await self._connection.call(stub, request, retry=True, timeout=3.0)
            except errors.CallError as error:
                log.warning("could not confirm %d acks: %s", len(seqs) - start, error)
                return
            self._unconfirmed.difference_update(request.seqs)

    async def _fetch_body(self, item: Item, activity_id: str) -> None:
        """Fetch a body above 256 KiB, which does not travel in the stream."""
        row = await self._connection.call(
            self._connection.delegations.GetActivity,
            pb.GetActivityRequest(workspace_id=self._workspace_id, activity_id=activity_id),
            retry=True,
        )
        name = "response_body" if item.is_result else "request_body"
        # Where the value has rounded an integer, the text is beside it.
        text = getattr(row, f"{name}_json")
        item.body = text or json_format.MessageToJson(getattr(row, name), indent=None)
        item.frame.body = item.body
        item.text = item.frame.text = text_of(item.json())
