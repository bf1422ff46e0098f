"""What acts on memories leave behind in the record: the digest of a text, never the text."""

from __future__ import annotations

import json
from uuid import UUID

from molecule_grpc.memory.namespaces import kind_of
from molecule_grpc.memory.ports import AuditEntry
from molecule_grpc.memory.values import NamespaceKind


def is_organization(namespace: str) -> bool:
    """Whether a whole organisation reads a namespace, so that writes to it are recorded."""
    return kind_of(namespace) == NamespaceKind.ORG


def written(author_id: UUID, memory_id: UUID, namespace: str, sha256: bytes) -> AuditEntry:
    """The row of a memory that a whole organisation reads."""
    body = _body(memory_id, namespace, sha256)
    summary = f"memory {memory_id} written to {namespace}"
    return AuditEntry(author_id, "memory_write_global", summary, body)


def edited(caller: UUID, memory_id: UUID, namespace: str, sha256: bytes) -> AuditEntry:
    """The row of a new text of such a memory."""
    body = _body(memory_id, namespace, sha256, reason="edited")
    summary = f"memory {memory_id} in {namespace} edited"
    return AuditEntry(caller, "memory_edit_global", summary, body)


def forgotten(caller: UUID, memory_id: UUID, namespace: str, sha256: bytes) -> AuditEntry:
    """The row that stays of a forgotten memory, of any namespace."""
    kind = "memory_forget_global" if is_organization(namespace) else "memory_forget"
    body = _body(memory_id, namespace, sha256)
    return AuditEntry(caller, kind, f"memory {memory_id} in {namespace} forgotten", body)


def _body(memory_id: UUID, namespace: str, sha256: bytes, **more: str) -> str:
    facts = {"memory_id": str(memory_id), "namespace": namespace, "content_sha256": sha256.hex()}
    return json.dumps(facts | more)
