"""Memories of the platform as the contract carries them, and back.

What the contract has no field for travels in `propagation`. A plugin without that capability loses
it, and may give back anything: nothing here trusts the object.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from molecule_grpc.kernel.ids import as_id
from molecule_grpc.memory.contract.objects import KINDS, SOURCES, Memory, MemoryWrite
from molecule_grpc.memory.contract.times import as_text, as_time
from molecule_grpc.memory.drafting import MAX_LABEL_CHARS, MAX_LABELS, Prepared
from molecule_grpc.memory.plugin.wire_names import WireNames
from molecule_grpc.memory.values import EmbedState, MemoryRow, NamespaceKind

AUTHOR: Final = "source_workspace_id"
_UNKNOWN: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_LABEL_CHARS: Final = 128


def write_of(
    prepared: Prepared, memory_id: UUID, names: WireNames, embedding: list[float] | None
) -> MemoryWrite:
    """A prepared draft as it is sent."""
    carried = {
        AUTHOR: str(prepared.author_id),
        "tags": prepared.tags,
        "entities": prepared.entities,
        "label": None if prepared.label == "general" else prepared.label,
        "valid_from": as_text(prepared.valid_from),
        "valid_to": as_text(prepared.valid_to),
        "delegation_id": prepared.delegation_id,
        "file_id": None if prepared.file_id is None else str(prepared.file_id),
        "metadata": None if prepared.metadata is None else json.loads(prepared.metadata),
    }
    return MemoryWrite(
        id=names.id(memory_id),
        content=prepared.content,
        kind=prepared.kind,
        source=prepared.source,
        expires_at=prepared.expires_at,
        propagation={name: value for name, value in carried.items() if value},
        pin=prepared.pinned,
        embedding=embedding,
        created_at=prepared.created_at,
    )


def row_of(memory: Memory, namespace: str, names: WireNames) -> MemoryRow:
    """A found memory as the platform knows memories; its author's name is not known here.

    Args:
        namespace: what the platform calls the namespace.

    Raises:
        Invalid: its id cannot be one.
    """
    carried = memory.propagation or {}
    created = memory.created_at or _UNKNOWN
    author = as_id(carried.get(AUTHOR))
    kind, _, anchor = namespace.partition(":")
    if kind == NamespaceKind.WORKSPACE:
        # Nobody else writes there.
        author = as_id(anchor)
    return MemoryRow(
        id=names.known(memory.id),
        namespace=namespace,
        content=memory.content,
        kind=memory.kind if memory.kind in KINDS else "fact",
        source=memory.source if memory.source in SOURCES else "agent",
        tags=_labels(carried.get("tags")),
        entities=_labels(carried.get("entities")),
        label=_text(carried, "label", MAX_LABEL_CHARS) or "general",
        author_id=author,
        author_name=None,
        pinned=memory.pin,
        created_at=created,
        updated_at=created,
        expires_at=memory.expires_at,
        valid_from=_time(carried.get("valid_from")) or created,
        valid_to=_time(carried.get("valid_to")),
        supersedes=[],
        superseded_by=None,
        version=1,
        delegation_id=_text(carried, "delegation_id", 256),
        file_id=as_id(carried.get("file_id")),
        metadata=_object(carried.get("metadata")),
        embed_state=EmbedState.NONE,
    )


def _labels(value: object) -> list[str]:
    if not isinstance(value, list):
        return []
    return [
        each
        for each in value[:MAX_LABELS]
        if isinstance(each, str) and 0 < len(each) <= _MOST_LABEL_CHARS
    ]


def _text(carried: Mapping[str, Any], name: str, most: int) -> str | None:
    value = carried.get(name)
    return value if isinstance(value, str) and 0 < len(value) <= most else None


def _time(value: object) -> datetime | None:
    try:
        return as_time(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _object(value: object) -> str | None:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) and value else None
