"""Memories on their way out of the installation: one JSON array, in pieces."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from uuid import UUID

from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.kernel.errors import NotFound
from molecule_grpc.kernel.protos import rfc3339
from molecule_grpc.kernel.slices import in_slices
from molecule_grpc.memory.redaction import redact, redact_json
from molecule_grpc.memory.rendering import scope_of
from molecule_grpc.memory.store import transfer as store
from molecule_grpc.memory.store.transfer import ExportRow

_FIRST = (UUID(int=0), UUID(int=0))


class Exports:
    """Reads all memories that hold or will hold and that anybody may see."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def pieces(self, organization_id: UUID | None) -> AsyncGenerator[bytes, None]:
        """The array, about 1 MiB a piece. A failed export lacks the closing bracket.

        Args:
            organization_id: whose; None for all.

        Raises:
            NotFound: ORGANIZATION_NOT_FOUND, before the first piece.
            Unavailable: the database does not answer.
        """
        with database_errors():
            if organization_id is not None and not await store.organization_exists(
                self._pool, organization_id
            ):
                raise no_organization()
            rows = await store.page(self._pool, organization_id, _FIRST)
        opening = b"["
        while rows:
            texts = await in_slices(exported, rows)
            yield opening + b",".join(texts)
            opening = b","
            with database_errors():
                last = (rows[-1].organization_id, rows[-1].id)
                rows = await store.page(self._pool, organization_id, last)
        yield b"[]" if opening == b"[" else b"]"


def exported(row: ExportRow) -> bytes:
    """A memory as JSON: the fields of older exports, and beside them what would be lost."""
    metadata = None if row.metadata is None else json.loads(redact_json(row.metadata)[0])
    times = {
        "expires_at": row.expires_at,
        "valid_to": row.valid_to,
    }
    facts = {
        "id": str(row.id),
        "content": redact(row.content)[0],
        "scope": scope_of(row.namespace),
        "namespace": row.label,
        "created_at": rfc3339(row.created_at),
        "workspace_name": row.workspace_name or "",
        "workspace_id": str(row.anchor_id or ""),
        "memory_namespace": row.namespace,
        "author_name": row.author_name or "",
        "author_id": str(row.author_id or ""),
        "organization_id": str(row.organization_id),
        "kind": row.kind,
        "source": row.source,
        "tags": row.tags,
        "entities": row.entities,
        "pinned": row.pinned,
        "valid_from": rfc3339(row.valid_from),
        "delegation_id": row.delegation_id,
        "file_id": None if row.file_id is None else str(row.file_id),
        "metadata": metadata,
        **{name: None if time is None else rfc3339(time) for name, time in times.items()},
    }
    return json.dumps(facts, ensure_ascii=False, separators=(",", ":")).encode()


def no_organization() -> NotFound:
    """There is no such organisation."""
    return NotFound("organization not found", reason="ORGANIZATION_NOT_FOUND")
