"""Hypothesis strategies for requests that are wrong: bytes, messages close to good ones, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from google.protobuf import struct_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

UUID = "11111111-1111-7111-8111-111111111111"
_TEXTS = [
    "", " ", "\x00", "a\x00b", "\x1b[2J", "\ufeff", "\u202e", "💥" * 100, "x" * 300, "x" * 70_000,
    "é" * 5000, "-1", "0", "1e400", "nan", "9" * 400, "null", "true", "{}", "../../etc/passwd",
    "' OR 1=1 --", "$1", "%s", "{0}", "<script>", UUID, UUID.upper(), UUID.replace("-", ""),
    "{" + UUID + "}", "urn:uuid:" + UUID, "00000000-0000-0000-0000-000000000000",
    "ffffffff-ffff-ffff-ffff-ffffffffffff", "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59.999999-23:59", "2026-01-01T00:00:00Z", "1970-01-01", "24:00",
    "WyIwMDAxLTAxLTAxVDAwOjAwOjAwKzIzOjU5IiwgIngiXQ==", "W10=", "bnVsbA==",
    "http://169.254.169.254/", "http://[::1]:99999/", "http://a\x00b/", "https://" + "a." * 600,
    "file:///etc/passwd", "remote://x", "http://user:pw@localhost:1/?q#f", "//", "http://",
]  # fmt: skip
_NUMBERS = [0, 1, -1, 50, 2**31 - 1, -(2**31), 2**32 - 1, 2**53, 2**63 - 1, -(2**63)]
_FLOATS = [0.0, -0.0, 1e-320, 0.5, 1.0, -1.0, 1e12, 1e308, math.inf, -math.inf, math.nan]
_INT32 = {FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_SINT32, FieldDescriptor.TYPE_SFIXED32}
_UINT32 = {FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_FIXED32}
# Calls that wait are right to: only their other values are tried.
_WAITING = "wait_seconds"

TEXT = st.sampled_from(_TEXTS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
JSON_TEXT = TEXT | st.sampled_from(["\ud800", "a\udfffb", "\ud800\x00"])
JSON_NUMBERS = st.sampled_from(_NUMBERS) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | JSON_NUMBERS | JSON_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(JSON_TEXT, inner, max_size=3),
    max_leaves=8,
)


def nested(depth: int, *, objects: bool) -> str:
    """JSON text of this depth."""
    opening, closing = ('{"a":', "}") if objects else ("[", "]")
    return opening * depth + "0" + closing * depth


DEPTHS = st.sampled_from([10, 30, 45, 48, 60, 100, 400, 5000])
DEEP = st.builds(lambda depth, objects: nested(depth, objects=objects), DEPTHS, st.booleans())
# Text that is no JSON, or JSON that few expect.
ODD_JSON = (
    st.sampled_from([
        b"", b"{", b"}", b"[]", b"[{}]", b"null", b"0", b'"x"', b"NaN", b"1e400", b"[1e400]",
        b'{"a":1e400}', b'{"a":' + b"9" * 5000 + b"}", b'{"a":1,"a":2}', b'{"a":"\\ud800"}',
        b'{"a":"\\u0000"}', b'{"\\u0000":1}', b'{"a":"\xff"}', b"\xff\xfe{\x00}\x00", b"\x00",
        b"{'a':1}", b'{"a":1,}', b"// x\n{}", b"a=1&b=2", b"<a/>", b'{"__proto__":{}}',
        b'{"":0}', b'{"a":' + b'"x' * 1, b'{"workspace_id":null}', b'{"workspaceId":"x"}',
    ])
    | DEEP.map(str.encode)
    | st.binary(max_size=64)
)  # fmt: skip
QUERIES = st.sampled_from([
    "", "?", "?&&&", "?=", "?%", "?%zz", "?%00", "?limit=abc", "?limit=1e400", "?limit=-1",
    "?limit=99999999999999999999", "?limit=", "?limit=1&limit=2", "?limit[]=1", "?since_id=%00",
    "?since_secs=1.5", "?before_ts=%F0%9F%92%A5", "?status=%FF", "?page_token=W10%3D", "?q=%00",
    "?workspace_id=x", "?workspaceId=x", "?start.after_seq=4294967295", "?start.after_seq=-1",
    "?start.generation=x", "?start.since_seconds=0", "?frame.x=1", "?after=x", "?confirm=maybe",
    "?include_removed=2", "?direction=up", "?a.b.c.d=1", "?" + "a" * 5000,
    "?" + "&".join(f"x{n}=1" for n in range(500)),
])  # fmt: skip
SEGMENTS = st.sampled_from([
    "x", "%00", "..", "%2e%2e", "%2F", "%2e%2e%2f%2e%2e%2fetc", "%", "%zz", "%ff", "%F0%9F%92%A5",
    "a%20b", "*", ":", ";a=b", UUID, UUID.upper(), "%7B" + UUID + "%7D", "x" * 5000, "-", "0",
])  # fmt: skip
CONTENT_TYPES = st.sampled_from([
    "application/json", "application/json; charset=utf-16", "text/plain", "text/xml", "",
    "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/grpc",
    "application/grpc-web+proto", "application/connect+json", "*/*", "\\",
])  # fmt: skip

_SCALARS = {
    FieldDescriptor.TYPE_STRING: TEXT,
    FieldDescriptor.TYPE_BYTES: ODD_JSON,
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_DOUBLE: st.sampled_from(_FLOATS),
    FieldDescriptor.TYPE_FLOAT: st.sampled_from(_FLOATS),
    FieldDescriptor.TYPE_ENUM: st.sampled_from([0, 1, 2, 3, 4, 5, 99, -1, 2**31 - 1]),
}


@st.composite
def near(draw: Callable[..., Any], good: Message) -> Message:
    """A good request with some of its fields spoilt."""
    message = type(good)()
    message.CopyFrom(good)
    fields = list(good.DESCRIPTOR.fields)
    if fields:
        for field in draw(st.lists(st.sampled_from(fields), min_size=1, max_size=3)):
            _spoil(draw, message, field, depth=0)
    return message


@st.composite
def strange(draw: Callable[..., Any], good: Message) -> bytes:
    """A good request with something after it: fields nobody knows, or no fields at all."""
    data: bytes = draw(near(good)).SerializeToString()
    rest: bytes = draw(
        st.sampled_from([b"", b"\xfa\xff\x0f\x03abc", b"\xf8\xff\x0f\x01", b"\x00", b"\x0f"])
        | st.binary(max_size=16)
    )
    return data + rest


@st.composite
def broken(draw: Callable[..., Any], good: bytes) -> bytes:
    """Good bytes with a piece cut out, replaced or doubled."""
    start = draw(st.integers(0, len(good)))
    end = draw(st.integers(start, len(good)))
    middle: bytes = draw(
        st.binary(max_size=20) | st.just(good[start:end] * 2) | st.just(b"\r\n--x")
    )
    return good[:start] + middle + good[end:]


@st.composite
def json_like(draw: Callable[..., Any], good: dict[str, Any]) -> bytes:
    """A good body with some of its values replaced by any JSON."""
    body = dict(good)
    names = st.sampled_from(sorted(good)) | JSON_TEXT if good else JSON_TEXT
    for name in draw(st.lists(names, min_size=1, max_size=3)):
        body[name] = draw(JSON)
    text = json.dumps(body)
    if draw(st.integers(0, 3)) == 0:
        name = draw(names)
        text = json.dumps({**body, name: "DEEP"}).replace('"DEEP"', draw(DEEP), 1)
    return text.encode()


def _spoil(
    draw: Callable[..., Any], message: Message, field: FieldDescriptor, *, depth: int
) -> None:
    message.ClearField(field.name)
    if depth > 3 or draw(st.integers(0, 7)) == 0:
        return
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        _spoil_map(draw, getattr(message, field.name), entry.fields_by_name["value"])
    elif field.is_repeated:
        values = [_value(draw, field, depth) for _ in range(draw(st.integers(0, 3)))]
        getattr(message, field.name).extend(values)
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(_value(draw, field, depth))
    else:
        setattr(message, field.name, _value(draw, field, depth))


def _spoil_map(draw: Callable[..., Any], pairs: Any, value: FieldDescriptor) -> None:
    for _ in range(draw(st.sampled_from([0, 1, 3, 70]))):
        pairs[draw(TEXT)] = _value(draw, value, depth=0)


def _value(draw: Callable[..., Any], field: FieldDescriptor, depth: int) -> Any:
    if field.message_type is not None:
        return _message(draw, field.message_type, depth)
    if field.type in _SCALARS:
        return draw(_SCALARS[field.type])
    numbers = [number for number in _NUMBERS if _fits(number, field.type)]
    if field.name == _WAITING:
        numbers = [number for number in numbers if not 0 < number <= 300]
    return draw(st.sampled_from(numbers))


def _fits(number: int, kind: int) -> bool:
    if kind in _INT32:
        return -(2**31) <= number < 2**31
    if kind in _UINT32:
        return 0 <= number < 2**32
    if kind in (FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64):
        return number >= 0
    return True


def _message(draw: Callable[..., Any], descriptor: Descriptor, depth: int) -> Message:
    if descriptor.full_name == "google.protobuf.Value":
        return _json_value(draw)
    if descriptor.full_name == "google.protobuf.Struct":
        return struct_pb2.Struct(fields={draw(TEXT): _json_value(draw)})
    message: Message = GetMessageClass(descriptor)()
    if descriptor.fields:
        for field in draw(st.lists(st.sampled_from(list(descriptor.fields)), max_size=3)):
            _spoil(draw, message, field, depth=depth + 1)
    return message


def _json_value(draw: Callable[..., Any]) -> struct_pb2.Value:
    value = struct_pb2.Value()
    if draw(st.booleans()):
        inner = value
        for _ in range(draw(st.sampled_from([1, 5, 20, 40, 45, 47]))):
            inner = inner.list_value.values.add()
        inner.number_value = draw(st.sampled_from(_FLOATS))
    else:
        value.struct_value.fields[draw(TEXT)].string_value = draw(TEXT)
    return value
