"""Requests to values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from google.protobuf import struct_pb2
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from moleculeai.memory.v1 import memory_pb2
from moleculeai.memory.v1 import memory_service_pb2 as pb

from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.kernel.ids import parse_id
from molecule_grpc.kernel.json_text import to_text
from molecule_grpc.kernel.json_values import read_value
from molecule_grpc.kernel.moments import storable
from molecule_grpc.kernel.numbers import unmarked
from molecule_grpc.kernel.slices import Slices
from molecule_grpc.kernel.text import clean
from molecule_grpc.memory.search_values import Query
from molecule_grpc.memory.values import Change, Draft
from molecule_grpc.server.call import Call

DEFAULT_HITS = 20
MAX_HITS = 100
_METADATA_BYTES = 16 * 1024
# Fields of an update: never empty, possibly empty with the empty value, and times.
_REQUIRED = frozenset(("content", "kind"))
_EMPTY: dict[str, object] = {"tags": (), "entities": (), "pinned": False}
_CLEARED = frozenset(("expires_at", "valid_from", "valid_to"))
_CHANGEABLE = _REQUIRED | _EMPTY.keys() | _CLEARED


async def draft(memory: memory_pb2.MemoryDraft, call: Call, field: str = "memory") -> Draft:
    """What an author wants to be remembered.

    Raises:
        Invalid: a time is out of range, or the metadata is too large or too deep.
    """
    return Draft(
        content=clean(memory.content),
        namespace=clean(memory.namespace),
        kind=memory.kind or "fact",
        source=memory.source or "agent",
        tags=tuple(map(clean, memory.tags)),
        entities=tuple(map(clean, memory.entities)),
        pinned=memory.pinned,
        expires_at=moment(memory, "expires_at", field),
        valid_from=moment(memory, "valid_from", field),
        valid_to=moment(memory, "valid_to", field),
        delegation_id=clean(memory.delegation_id) or None,
        file_id=optional_id(memory.file_id, f"{field}.file_id"),
        metadata=await _metadata(memory, call, field),
        id=optional_id(memory.id, f"{field}.id"),
        keep_duplicate=memory.keep_duplicate,
    )


def change(request: pb.UpdateMemoryRequest) -> Change:
    """What a caller wants to be changed: what the mask names, or without a mask what is given.

    Raises:
        Invalid: a time is out of range, or the mask names what cannot be changed or cleared.
    """
    given = _given(request)
    if not request.update_mask.paths:
        return given
    paths = set(request.update_mask.paths)
    if unknown := paths - _CHANGEABLE:
        raise Invalid(
            f"update_mask names {min(unknown)}, which is none of {', '.join(sorted(_CHANGEABLE))}",
            field="update_mask",
        )
    for name in sorted(paths & _REQUIRED):
        if getattr(given, name) is None:
            raise Invalid(f"{name} is in update_mask, and has no value", field=name)
    values: dict[str, Any] = {name: getattr(given, name) for name in paths}
    cleared = frozenset(name for name in paths & _CLEARED if values[name] is None)
    for name in paths & _EMPTY.keys():
        values[name] = _EMPTY[name] if values[name] is None else values[name]
    return Change(**values, cleared=cleared, if_version=given.if_version)


def _given(request: pb.UpdateMemoryRequest) -> Change:
    return Change(
        content=clean(request.content) if request.HasField("content") else None,
        kind=request.kind if request.HasField("kind") else None,
        tags=_labels(request.tags) if request.HasField("tags") else None,
        entities=_labels(request.entities) if request.HasField("entities") else None,
        pinned=request.pinned if request.HasField("pinned") else None,
        expires_at=moment(request, "expires_at"),
        valid_from=moment(request, "valid_from"),
        valid_to=moment(request, "valid_to"),
        if_version=request.if_version if request.HasField("if_version") else None,
    )


def query(request: pb.SearchMemoriesRequest) -> Query:
    """A search. Raises `Invalid` for a time out of range."""
    return Query(
        text=clean(request.q),
        namespaces=(*request.namespaces, *([request.namespace] if request.namespace else [])),
        kinds=(*request.kinds, *([request.kind] if request.kind else [])),
        tags=tuple(map(clean, request.tags)),
        entities=tuple(map(clean, request.entities)),
        author_id=optional_id(request.author_id, "author_id"),
        created_after=moment(request, "created_after"),
        created_before=moment(request, "created_before"),
        as_of=moment(request, "as_of"),
        mode=request.mode,
        limit=min(max(request.limit, 1), MAX_HITS) if request.limit else DEFAULT_HITS,
        page_token=request.page_token,
        min_score=request.min_score,
        half_life_days=request.half_life_days,
        explain=request.explain,
        delegation_id=clean(request.delegation_id),
        file_id=optional_id(request.file_id, "file_id"),
    )


def explained_search(request: pb.ExplainMemoryRequest) -> pb.SearchMemoriesRequest:
    """The search that shall be explained, of the reader: not checked yet."""
    search = pb.SearchMemoriesRequest()
    search.CopyFrom(request.search)
    search.workspace_id, search.page_token = request.workspace_id, ""
    return search


def if_version(request: pb.SetValueRequest | pb.DeleteValueRequest) -> int | None:
    """The version that a key must have, by either name; None for any."""
    if request.HasField("if_match_version"):
        return request.if_match_version
    return request.if_version if request.HasField("if_version") else None


async def json_value(value: struct_pb2.Value, field: str, call: Call) -> str:
    """A value as JSON text.

    Raises:
        Invalid: it is nested too deeply, or holds what JSON cannot express.
    """
    try:
        body = await read_value(value, Slices())
    except ValueError:  # NaN or an infinity
        raise Invalid(f"{field} holds a number out of range", field=field) from None
    return to_text(unmarked(body) if call.rest else body, field)


def moment(message: Message, name: str, within: str = "") -> datetime | None:
    """A time of a request; None when it is absent. Raises `Invalid` when it is out of range."""
    if not message.HasField(name):
        return None
    stamp: Timestamp = getattr(message, name)
    try:
        return storable(stamp.ToDatetime(tzinfo=UTC))
    except (ValueError, OverflowError):
        field = f"{within}.{name}" if within else name
        raise Invalid(f"{field} is out of range", field=field) from None


def optional_id(text: str, field: str) -> UUID | None:
    """A UUID; None for empty text. Raises `Invalid` for anything else."""
    return parse_id(text, field) if text else None


async def _metadata(memory: memory_pb2.MemoryDraft, call: Call, field: str) -> str | None:
    if not memory.HasField("metadata"):
        return None
    where = f"{field}.metadata"
    refused = Invalid(f"{where} must be at most {_METADATA_BYTES} bytes of JSON", field=where)
    # On the wire a number takes more than its digits, and nothing else takes less than a half.
    if memory.metadata.ByteSize() > 16 * _METADATA_BYTES:
        raise refused
    text = await json_value(struct_pb2.Value(struct_value=memory.metadata), where, call)
    if len(text.encode()) > _METADATA_BYTES:
        raise refused
    return text


def _labels(labels: pb.UpdateMemoryRequest.Labels) -> tuple[str, ...]:
    return tuple(map(clean, labels.values))
