"""What clients have not taken: whose streams wait, and which of them end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from uuid import uuid4

import pytest

from molecule_grpc.kernel.payer import Payer, payer
from molecule_grpc.server import unread
from molecule_grpc.server.unread import Unread
from tests.settings import unread_of


@contextlib.contextmanager
def paying(who: Payer) -> Iterator[None]:
    token = payer.set(who)
    try:
        yield
    finally:
        payer.reset(token)


def test_one_organization_is_crowded_and_the_others_are_not() -> None:
    counted = unread_of(100)
    mine, other = uuid4(), uuid4()
    with paying(Payer(mine)):
        with counted.writing(100, lambda: None):
            assert counted.crowds(mine)
            assert not counted.crowds(other)
        assert not counted.crowds(mine)


async def test_streams_that_were_blocked_longest_end_until_the_rest_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(unread, "_EDGE_BYTES", 10)
    ended: list[int] = []
    counted: Unread = unread_of(100)
    with contextlib.ExitStack() as stack:
        stack.enter_context(paying(Payer(uuid4())))
        for number in range(5):
            stack.enter_context(counted.writing(30, lambda number=number: ended.append(number)))  # type: ignore[misc]
        await counted.relieve()
        assert ended == []  # None is blocked yet.
        monkeypatch.setattr(unread, "_BLOCKED_SECONDS", 0.0)
        await counted.relieve()
        assert ended == [0, 1, 2]
        await counted.relieve()
        assert ended == [0, 1, 2]
