"""multipart bodies: bodies of browsers, cut anywhere, and of attackers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.upload.intake import FileEvent, FileHead
from molecule_grpc.upload.multipart_reader import read_multipart
from molecule_grpc.upload.multipart_writer import MultipartWriter
from molecule_grpc.upload.rules import UploadLimits

LIMITS = UploadLimits(per_file=1000)
KIND = "multipart/form-data; boundary=XX"


async def _stream(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def read(body: bytes, kind: str = KIND, size: int = 7) -> list[tuple[FileHead, bytes]]:
    """The files of a body that arrives in pieces of so many bytes."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return await _files(read_multipart(kind, _stream(pieces), LIMITS))


async def _files(events: AsyncIterator[FileEvent]) -> list[tuple[FileHead, bytes]]:
    files: list[tuple[FileHead, bytes]] = []
    async for event in events:
        if isinstance(event, FileHead):
            files.append((event, b""))
        else:
            files[-1] = (files[-1][0], files[-1][1] + event)
    return files


def part(headers: str, data: bytes = b"data") -> bytes:
    return b"--XX\r\n" + headers.encode() + b"\r\n\r\n" + data + b"\r\n"


def file_part(name: str = "a.txt", data: bytes = b"data") -> bytes:
    return part(f'Content-Disposition: form-data; name="files"; filename="{name}"', data)


END = b"--XX--\r\n"


@given(
    st.lists(st.binary(max_size=50) | st.just(b"\r\n--XX\r\r\n--"), min_size=1, max_size=4),
    st.integers(1, 40),
)
async def test_bytes_arrive_as_they_were_wherever_they_are_cut(
    contents: list[bytes], size: int
) -> None:
    """D25: also bytes that look like a boundary."""
    request = httpx.Request(
        "POST",
        "http://x",
        files=[("files", (f"f{n}.bin", data, "a/b")) for n, data in enumerate(contents)],
        data={"comment": "hello"},
    )
    got = await read(request.read(), request.headers["content-type"], size)
    assert [data for _, data in got] == contents
    assert [head for head, _ in got] == [FileHead(f"f{n}.bin", "a/b") for n in range(len(contents))]


async def test_names_arrive_as_browsers_write_them() -> None:
    """D32: backslashes, quotes, line breaks and letters of all kinds."""
    names = ["C:\\Users\\x.txt", "a%22b.txt", 'a\\"b.txt', "é🙂.txt", "a%0Ab", "..", " "]
    got = await read(b"".join(map(file_part, names)) + END)
    assert [head.name for head, _ in got] == [
        "C:\\Users\\x.txt", 'a"b.txt', 'a"b.txt', "é🙂.txt", "a\nb", "..", " "
    ]  # fmt: skip


async def test_other_fields_are_skipped() -> None:
    other = part('Content-Disposition: form-data; name="other"', b"x" * 100)
    other_file = part('Content-Disposition: form-data; name="avatar"; filename="b"', b"y" * 100)
    got = await read(other + file_part() + other_file + END)
    assert [(head.name, data) for head, data in got] == [("a.txt", b"data")]


async def test_a_form_whose_user_chose_no_file_has_none() -> None:
    with pytest.raises(Invalid, match="no files field in request"):
        await read(file_part("", b"") + END)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"--YY\r\n",
        file_part(),
        file_part() + b"--XX",
        file_part() + b"--XX\r\nContent-Disposition: form-data; na",
        part("no colon here") + END,
        part("Content-Type: a/b") + END,
        part('Content-Disposition: attachment; name="files"; filename="a"') + END,
        part("x: " + "y" * 10_000) + END,
        part("\r\n".join(f"h{n}: v" for n in range(50))) + END,
    ],
)
async def test_a_malformed_body_is_refused(body: bytes) -> None:
    with pytest.raises(Invalid, match="malformed multipart body"):
        await read(body)


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "text/plain",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/mixed; boundary=XX",
        "multipart/form-data; boundary=" + "X" * 500,
        "multipart/form-data; boundary=é",
    ],
)
async def test_a_content_type_without_a_good_boundary_is_refused(kind: str) -> None:
    with pytest.raises(Invalid, match="malformed multipart body"):
        await read(file_part() + END, kind)


async def test_a_quoted_boundary_is_understood() -> None:
    got = await read(file_part() + END, 'Multipart/Form-Data; charset=utf-8; Boundary="XX"')
    assert [data for _, data in got] == [b"data"]


async def test_what_follows_the_end_is_ignored() -> None:
    got = await read(file_part() + END + b"\r\n" + file_part() * 3)
    assert len(got) == 1


async def test_the_65th_file_is_refused() -> None:
    assert len(await read(file_part() * 64 + END)) == 64
    with pytest.raises(Invalid, match=r"too many files \(limit 64\)"):
        await read(file_part() * 65 + END)


async def test_ten_thousand_parts_end_at_the_33rd_field() -> None:
    seen = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal seen
        for _ in range(10_000):
            seen += 1
            yield part('Content-Disposition: form-data; name="x"')

    with pytest.raises(Invalid, match="too many fields"):
        await _files(read_multipart(KIND, endless(), LIMITS))
    assert seen == 33


@pytest.mark.parametrize("start", [b"", file_part()[:-2], file_part() + END])
async def test_an_endless_body_ends_at_the_limit(start: bytes) -> None:
    """D31: before, within and after the parts."""
    seen = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal seen
        yield start
        while True:
            seen += 65536
            yield b"\n" * 65536

    with pytest.raises(Invalid) as caught:
        async for _ in read_multipart(KIND, endless(), LIMITS):
            pass
    assert caught.value.reason in ("BODY_TOO_LARGE", "INVALID_ARGUMENT")
    assert seen <= LIMITS.per_body + 65536


@given(st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=60)), min_size=1, max_size=5))
async def test_what_we_write_we_can_read(files: list[tuple[str, bytes]]) -> None:
    """D32, D42: what gRPC clients send to an agent that is called has the same names."""

    async def events() -> AsyncIterator[FileEvent]:
        for name, data in files:
            yield FileHead(name, "image/png; x=1")
            yield data

    writer = MultipartWriter(LIMITS)
    body = b"".join([piece async for piece in writer.encode(events())])
    got = await read(body, writer.content_type, 11)
    assert [data for _, data in got] == [data for _, data in files]
    assert {head.mime_type for head, _ in got} == {"image/png"}
