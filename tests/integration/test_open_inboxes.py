"""The passes over all open streams of a worker reach every one of them, in slices."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast
from uuid import UUID

import pytest

from molecule_grpc.db.pool import Pool
from molecule_grpc.db.wakeups import Flag
from molecule_grpc.delegation.inbox.open_inboxes import OpenInboxes
from molecule_grpc.delegation.inbox.reads import InboxReads
from molecule_grpc.delegation.inbox.stream import InboxStream
from molecule_grpc.delegation.inbox.window import Window
from molecule_grpc.server.streams import OpenStreams, StreamGuard
from tests.integration.agents import hire
from tests.settings import unread_of

# More than two slices, and a rest.
_STREAMS = 250
# These streams read nothing.
_NOTHING = cast("InboxReads", None)


@dataclass
class Seen:
    """What the passes did."""

    woken: list[UUID] = field(default_factory=list)
    confirmed: list[UUID] = field(default_factory=list)
    present: list[UUID] = field(default_factory=list)


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
async def everyone(pool: Pool) -> list[UUID]:
    return await hire(pool, _STREAMS)


@pytest.fixture
def open_inboxes(pool: Pool, seen: Seen) -> OpenInboxes:
    async def touch(workspace_ids: list[UUID]) -> None:
        seen.present += workspace_ids

    return OpenInboxes(
        pool,
        lease_seconds=30,
        touch_present=touch,
        wake=seen.woken.append,
        confirm=lambda workspace_id, _standing, _at: seen.confirmed.append(workspace_id),
    )


def stream_of(workspace_id: UUID, *, epoch: int = 0) -> InboxStream:
    guard = StreamGuard(Flag(workspace_id), OpenStreams(), unread_of(), beat=15, max_age=3600)
    return InboxStream(workspace_id, _NOTHING, guard, Window(0, None), epoch=epoch)


async def deliver(pool: Pool, workspace_ids: Sequence[UUID]) -> None:
    """Their inboxes have an item that no stream has heard of."""
    await pool.execute(
        "INSERT INTO inbox_heads (workspace_id, last_seq) SELECT unnest($1::uuid[]), 1",
        workspace_ids,
    )


@contextlib.contextmanager
def all_open(open_inboxes: OpenInboxes, opened: Iterable[InboxStream]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for stream in opened:
            stack.enter_context(open_inboxes.attend(stream))
        yield


async def test_safety_check_wakes_who_missed_something_and_nobody_else(
    pool: Pool, open_inboxes: OpenInboxes, seen: Seen, everyone: list[UUID]
) -> None:
    missed = everyone[::7]
    await deliver(pool, missed)
    with all_open(open_inboxes, map(stream_of, everyone)):
        await open_inboxes.check()
    assert sorted(seen.woken) == sorted(missed)
    assert sorted([*seen.woken, *seen.confirmed]) == sorted(everyone)


async def test_stream_that_closes_during_the_check_is_let_alone(
    pool: Pool, open_inboxes: OpenInboxes, seen: Seen, everyone: list[UUID]
) -> None:
    """Its successor has looked for itself: what the old one knew is no reason to wake anybody."""
    await deliver(pool, everyone)
    with all_open(open_inboxes, map(stream_of, everyone)):
        checking = asyncio.create_task(open_inboxes.check())
        while not seen.woken:
            await asyncio.sleep(0)
        first = list(seen.woken)
        assert len(first) < _STREAMS
    await checking
    assert seen.woken == first


async def test_renewal_extends_every_lease_and_wakes_who_lost_theirs(
    pool: Pool, open_inboxes: OpenInboxes, seen: Seen, everyone: list[UUID]
) -> None:
    await pool.execute(
        "INSERT INTO inbox_heads (workspace_id, lease_holder, lease_epoch, lease_until)"
        " SELECT unnest($1::uuid[]), 'one', 2, now()",
        everyone,
    )
    lost = everyone[::7]
    epochs = dict.fromkeys(everyone, 2) | dict.fromkeys(lost, 1)
    with all_open(open_inboxes, (stream_of(one, epoch=epoch) for one, epoch in epochs.items())):
        await open_inboxes.renew()
    extended = await pool.fetch(
        "SELECT workspace_id FROM inbox_heads"
        " WHERE workspace_id = ANY($1) AND lease_until > now() + interval '20 s'",
        everyone,
    )
    assert sorted(seen.woken) == sorted(lost)
    assert {row["workspace_id"] for row in extended} == set(everyone) - set(lost)


async def test_every_open_stream_is_a_sign_of_life(
    open_inboxes: OpenInboxes, seen: Seen, everyone: list[UUID]
) -> None:
    with all_open(open_inboxes, map(stream_of, everyone)):
        await open_inboxes.present()
    assert sorted(seen.present) == sorted(everyone)
