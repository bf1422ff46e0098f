"""Paths of files in workspaces, and reading ahead of a client that takes its time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from molecule_grpc.backends.access.ahead import AHEAD_BYTES, Ahead
from molecule_grpc.backends.access.convert import content_of
from molecule_grpc.backends.access.log_stream import Lines
from molecule_grpc.backends.access.rules import absolute
from molecule_grpc.backends.contract.entering import LogChunk
from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason
from molecule_grpc.kernel.errors import Invalid, Unavailable

PIECE = 16 * 1024


@pytest.mark.parametrize(
    ("root", "path", "wanted"),
    [
        ("", "config.yaml", "/configs/config.yaml"),
        ("/workspace", "a/b", "/workspace/a/b"),
        ("/workspace", "a b/\n", "/workspace/a b/\n"),
        ("/home", "..a/...", "/home/..a/..."),
    ],
)
def test_a_path_is_taken_as_it_is(root: str, path: str, wanted: str) -> None:
    assert absolute(root, path) == wanted


@pytest.mark.parametrize(
    "path", ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a\0", "ü" * 128]
)
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(Invalid) as caught:
        absolute("/workspace", path)
    assert caught.value.violations[0][0] == "path"


def test_a_directory_may_be_the_root_itself() -> None:
    assert absolute("", "", itself=True) == "/configs"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"{}", b'{"content":1}', b'{"content":"\\ud800"}', b"\xff"]
)
def test_a_body_without_content_is_refused(body: bytes) -> None:
    with pytest.raises(Invalid):
        content_of(body)


async def test_a_source_is_read_no_further_ahead_than_there_is_room() -> None:
    """All parts are taken before the source's error is raised."""
    given = 0

    async def source() -> AsyncIterator[bytes]:
        nonlocal given
        for _ in range(100):
            given += 1
            yield bytes(PIECE)
        raise BackendFailure(FailureReason.TIMEOUT, "too late")

    ahead = Ahead[bytes](len, lambda: None)
    filling = asyncio.create_task(ahead.fill(source()))
    for _ in range(1000):
        await asyncio.sleep(0)
    assert given == AHEAD_BYTES // PIECE
    taken = 0
    while not filling.done() or ahead.waiting:
        if ahead.waiting:
            ahead.pop()
            taken += 1
        assert given - taken <= AHEAD_BYTES // PIECE
        await asyncio.sleep(0)
    assert (taken, ahead.over) == (100, True)
    with pytest.raises(Unavailable):
        ahead.pop()


async def test_a_place_is_behind_whole_lines_alone() -> None:
    """A resumed stream begins with a line that was not sent whole, and cuts no character."""

    async def source() -> AsyncIterator[LogChunk]:
        yield LogChunk(0, b"")
        yield LogChunk(5, b"one\n")
        # The engine cuts a long line, whose pieces have one time.
        yield LogChunk(7, b"tw" + "ö".encode()[:1])
        yield LogChunk(7, "ö".encode()[1:])

    ahead = Ahead[LogChunk](lambda chunk: len(chunk.data), lambda: None)
    await ahead.fill(source())
    printed = Lines(ahead, 0).take()
    assert printed is not None
    assert (printed.text, printed.place) == ("one\ntwö", 5)
