"""Reads the multipart/form-data bodies that browsers send, while they arrive."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.upload.intake import FileEvent, FileHead
from molecule_grpc.upload.rules import UploadLimits, body_too_large, too_many_files

FIELD = "files"

# RFC 2046 allows 70 characters; some clients go beyond.
_MAX_BOUNDARY = 200
_MAX_HEADERS = 8
_MAX_HEADER_BYTES = 8192
# Padding after a boundary, which RFC 2046 tells receivers to ignore, up to here.
_MAX_PADDING = 200
# Browsers write backslashes as they are, so a quote after one may end the value: a quote ends it
# where a semicolon or the header's end follows.
_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*(?:"(.*?)"(?=\s*(?:;|$))|([^\s;"]*))', re.DOTALL)
_ESCAPED = re.compile(r'\\(["\\])')
# How browsers write these characters in a quoted name; they encode no others.
_PERCENT = {"%22": '"', "%0D": "\r", "%0A": "\n"}


async def read_multipart(
    content_type: str, pieces: AsyncIterator[bytes], limits: UploadLimits
) -> AsyncIterator[FileEvent]:
    """The files of a body. Other fields than `files` are skipped.

    Raises:
        Invalid: the body is malformed, has too many parts or no file, or is longer than
            `limits.per_body`.
    """
    form = _Form(content_type, limits)
    seen = 0
    async for piece in pieces:
        seen += len(piece)
        if seen > limits.per_body:
            raise body_too_large(limits.per_request)
        for event in form.feed(piece):
            yield event
    form.finish()


class _Form:
    """Turns what the parser finds into events, and counts files and fields."""

    def __init__(self, content_type: str, limits: UploadLimits) -> None:
        boundary = _boundary(content_type)
        self._limits = limits
        self._events: list[FileEvent] = []
        self._name = bytearray()
        self._value = bytearray()
        self._headers: dict[str, str] = {}
        self._in_file = False
        self._files = 0
        self._fields = 0
        self._complete = False
        self._start: _Start | None = _Start(boundary)
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._more_name,
                "on_header_value": self._more_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._data,
                "on_end": self._end,
            },
            max_header_count=_MAX_HEADERS,
            max_header_size=_MAX_HEADER_BYTES,
        )

    def feed(self, piece: bytes) -> list[FileEvent]:
        """The events that end in this piece of the body."""
        if self._start is not None:
            piece = self._start.feed(piece)
            if piece:
                self._start = None
        if piece and not self._complete:
            try:
                self._parser.write(piece)
            except FormParserError as error:
                raise _malformed() from error
        events, self._events = self._events, []
        return events

    def finish(self) -> None:
        """The body has ended.

        Raises:
            Invalid: the body broke off, or has no file.
        """
        if not self._complete:
            raise _malformed()
        if not self._files:
            raise Invalid("no files field in request", field="body")

    def _begin(self) -> None:
        self._headers = {}

    def _more_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _more_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        name = self._name.decode("latin-1").strip().lower()
        self._headers[name] = self._value.decode("utf-8", "replace").strip()
        self._name.clear()
        self._value.clear()

    def _end_headers(self) -> None:
        kind, options = _options(self._headers.get("content-disposition", ""))
        if kind != "form-data":
            raise _malformed()
        # A form whose user chose no file sends an empty name.
        filename = options.get("filename", "")
        self._in_file = options.get("name") == FIELD and filename != ""
        self._count()
        if self._in_file:
            self._events.append(FileHead(filename, self._headers.get("content-type", "")))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._events.append(data[start:end])

    def _end(self) -> None:
        self._complete = True

    def _count(self) -> None:
        if self._in_file:
            self._files += 1
        else:
            self._fields += 1
        if self._files > self._limits.files:
            raise too_many_files(self._limits)
        if self._fields > self._limits.fields:
            raise Invalid(f"too many fields (limit {self._limits.fields})", field="body")


class _Start:
    """Skips what RFC 2046 allows before the first part: a preamble, and padding of the boundary.

    The parser knows neither.
    """

    def __init__(self, boundary: str) -> None:
        self._line = b"--" + boundary.encode()
        line = re.escape(self._line)
        self._pattern = re.compile(rb"\r\n" + line + rb"(?:(--)|[ \t]*\r\n)")
        self._keep = len(self._line) + _MAX_PADDING
        # As if the body began with a line's end: its first line needs none.
        self._held = b"\r\n"

    def feed(self, piece: bytes) -> bytes:
        """The body from its first boundary on; empty until the boundary has arrived."""
        self._held += piece
        found = self._pattern.search(self._held)
        if found is None:
            self._held = self._held[-self._keep :]
            return b""
        return self._line + (found[1] or b"\r\n") + self._held[found.end() :]


def _boundary(content_type: str) -> str:
    kind, options = _options(content_type)
    boundary = options.get("boundary", "")
    if (
        kind != "multipart/form-data"
        or not 0 < len(boundary) <= _MAX_BOUNDARY
        or not boundary.isascii()
    ):
        raise _malformed()
    return boundary


def _options(header: str) -> tuple[str, dict[str, str]]:
    """A header's first word and its parameters.

    The parser's own reading cuts file names at backslashes; our rule for names keeps them.
    """
    kind, _, _ = header.partition(";")
    options: dict[str, str] = {}
    for match in _PARAMETER.finditer(header, len(kind)):
        name, quoted, plain = match.groups()
        value = plain if quoted is None else _ESCAPED.sub(r"\1", quoted)
        for code, character in _PERCENT.items():
            value = value.replace(code, character)
        options.setdefault(name.lower(), value)
    return kind.strip().lower(), options


def _malformed() -> Invalid:
    return Invalid("malformed multipart body", field="body")
