"""Export and import of the table of an old installation, until it is cut over."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from uuid import UUID

from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.kernel.protos import rfc3339
from molecule_grpc.kernel.slices import in_slices
from molecule_grpc.memory import acts, drafting
from molecule_grpc.memory.exports import no_organization
from molecule_grpc.memory.legacy.store import transfer as store
from molecule_grpc.memory.namespaces import kind_of
from molecule_grpc.memory.ports import Audit
from molecule_grpc.memory.redaction import redact
from molecule_grpc.memory.store.transfer import organization_exists
from molecule_grpc.memory.values import Committed, Draft

_SCOPES = {"workspace": "LOCAL", "team": "TEAM", "org": "GLOBAL"}


class LegacyExports:
    """Reads all rows whose workspace exists."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def pieces(self, organization_id: UUID | None) -> AsyncGenerator[bytes, None]:
        """The array, 100 rows a piece. A failed export lacks the closing bracket.

        Raises:
            NotFound: ORGANIZATION_NOT_FOUND, before the first piece.
            Unavailable: the database does not answer.
        """
        with database_errors():
            if organization_id is not None and not await organization_exists(
                self._pool, organization_id
            ):
                raise no_organization()
        opening, after = b"[", store.FIRST
        while True:
            with database_errors():
                rows = await store.page(self._pool, organization_id, after)
            if not rows:
                break
            yield opening + b",".join(await in_slices(_exported, rows))
            opening, after = b",", (rows[-1].created_at, rows[-1].id)
        yield b"[]" if opening == b"[" else b"]"


class LegacyCommits:
    """Stores memories of an import. A stored row with the same text and scope stays unchanged."""

    def __init__(self, pool: Pool, audit: Audit) -> None:
        self._pool = pool
        self._audit = audit

    async def commit(
        self,
        author: UUID,
        draft: Draft,
        *,
        operator: bool = False,  # noqa: ARG002
        overwrite: bool = True,  # noqa: ARG002
    ) -> Committed:
        """Store a row, redacted before it is compared. A row with the draft's id stays as it is.

        Raises:
            Invalid: the text is no memory.
            Unavailable: the database does not answer.
        """
        text = await drafting.text_in_slices(draft.content)
        scope = _SCOPES.get(kind_of(draft.namespace), "LOCAL")
        row = store.NewRow(
            draft.id or new_id(),
            author,
            text.content,
            scope,
            draft.label,
            draft.created_at or datetime.now(UTC),
        )
        with database_errors():
            async with self._pool.acquire() as conn, conn.transaction():
                added = await store.add(conn, row)
                if added and scope == "GLOBAL":
                    entry = acts.written(author, row.id, draft.namespace, text.sha256)
                    await self._audit(conn, [entry])
        return Committed(
            id=row.id,
            namespace=draft.namespace,
            unchanged=not added,
            redactions=text.redactions,
        )


def _exported(row: store.ExportedRow) -> bytes:
    facts = {
        "id": str(row.id),
        "content": redact(row.content)[0],
        "scope": row.scope,
        "namespace": row.label,
        "created_at": rfc3339(row.created_at),
        "workspace_name": row.workspace_name,
    }
    return json.dumps(facts, ensure_ascii=False, separators=(",", ":")).encode()
