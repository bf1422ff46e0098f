"""FrameReader cuts a body into messages, for any split of the body into pieces."""

from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from molecule_grpc.kernel.errors import Exhausted, Unsupported
from molecule_grpc.kernel.sizes import MAX_REQUEST_BYTES
from molecule_grpc.server.hosts.envoy.framing import BrokenFrame, FrameReader, framed

MESSAGES = st.lists(st.binary(max_size=300), max_size=6)
COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}


def marked(data: bytes, flag: int = 1) -> bytes:
    return bytes([flag]) + len(data).to_bytes(4, "big") + data


def split(body: bytes, cuts: Iterable[int]) -> list[bytes]:
    """The body in pieces that end at these places."""
    ends = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    return [body[begin:end] for begin, end in itertools.pairwise(ends)]


def read(pieces: Iterable[bytes], encoding: str = "identity") -> list[bytes]:
    """All messages of a complete body."""
    reader = FrameReader(encoding)
    found = [message for piece in pieces for message in reader.feed(piece)]
    reader.end()
    return found


@given(messages=MESSAGES, cuts=st.lists(st.integers(0, 2000), max_size=12))
def test_any_split_of_any_messages(messages: list[bytes], cuts: list[int]) -> None:
    assert read(split(b"".join(map(framed, messages)), cuts)) == messages


@pytest.mark.parametrize("encoding", COMPRESS)
@given(
    messages=st.lists(st.tuples(st.binary(max_size=300), st.booleans()), max_size=6),
    cuts=st.lists(st.integers(0, 2000), max_size=12),
)
def test_any_split_of_messages_that_may_be_compressed(
    encoding: str, messages: list[tuple[bytes, bool]], cuts: list[int]
) -> None:
    compress = COMPRESS[encoding]
    body = b"".join(
        marked(compress(data)) if compressed else framed(data) for data, compressed in messages
    )
    assert read(split(body, cuts), encoding) == [data for data, _ in messages]


@given(messages=st.lists(st.binary(max_size=40), min_size=1, max_size=3), data=st.data())
def test_body_that_ends_within_a_message(messages: list[bytes], data: st.DataObject) -> None:
    body = b"".join(map(framed, messages))
    whole = [sum(len(each) + 5 for each in messages[:count]) for count in range(len(messages) + 1)]
    end = data.draw(st.integers(1, len(body) - 1).filter(lambda cut: cut not in whole))
    with pytest.raises(BrokenFrame):
        read([body[:end]])


@given(body=st.binary(max_size=60), cuts=st.lists(st.integers(0, 60), max_size=4))
def test_any_bytes_are_read_or_refused(body: bytes, cuts: list[int]) -> None:
    """And the pieces make no difference."""

    def outcome(pieces: list[bytes]) -> object:
        try:
            return read(pieces, "gzip")
        except (BrokenFrame, Exhausted) as error:
            return type(error)

    assert outcome(split(body, cuts)) == outcome([body])


def test_message_that_is_too_large_is_refused_by_its_announcement() -> None:
    size = MAX_REQUEST_BYTES + 1
    reader = FrameReader()
    with pytest.raises(Exhausted, match="exceeds"):
        list(reader.feed(b"\0" + size.to_bytes(4, "big")))


def test_largest_message_passes() -> None:
    data = b"x" * MAX_REQUEST_BYTES
    assert read([framed(data)]) == [data]
    assert read([marked(gzip.compress(data, 1))], "gzip") == [data]


def test_bomb_is_refused() -> None:
    with pytest.raises(Exhausted):
        read([marked(gzip.compress(b"\0" * (MAX_REQUEST_BYTES + 1), 1))], "gzip")


@pytest.mark.parametrize(
    "body",
    [
        marked(b"no gzip"),
        marked(gzip.compress(b"data")[:-6]),
        marked(gzip.compress(b"data") + b"more"),
        marked(gzip.compress(b"data"), 2),
    ],
    ids=["no gzip", "cut off", "and more", "flag of 2"],
)
def test_compressed_message_that_cannot_be_read(body: bytes) -> None:
    with pytest.raises(BrokenFrame):
        read([body], "gzip")


def test_compression_that_is_not_named() -> None:
    with pytest.raises(BrokenFrame):
        read([marked(gzip.compress(b"data"))])


def test_compression_that_is_not_served() -> None:
    with pytest.raises(Unsupported):
        FrameReader("zstd")
