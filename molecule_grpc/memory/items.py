"""Prepared drafts as rows on their way."""

from __future__ import annotations

import json
from uuid import UUID

from molecule_grpc.kernel.ids import new_id
from molecule_grpc.memory.drafting import Prepared
from molecule_grpc.memory.store.commits import Item


def item(
    prepared: Prepared, *, embed: bool, change: str = "committed", memory_id: UUID | None = None
) -> Item:
    """A prepared draft as a row.

    Args:
        embed: whether there is an embedder that shall read the text.
        change: how the text comes to be.
        memory_id: wins over the id of the draft.
    """
    return Item(
        memory_id=memory_id or prepared.id or new_id(),
        event_id=new_id(),
        author_id=prepared.author_id,
        shared=prepared.namespace != f"workspace:{prepared.author_id}",
        locked=False,
        namespace=prepared.namespace,
        content=prepared.content,
        sha256=prepared.sha256,
        keep=prepared.keep_duplicate,
        kind=prepared.kind,
        source=prepared.source,
        tags=json.dumps(prepared.tags),
        entities=json.dumps(prepared.entities),
        label=prepared.label,
        pinned=prepared.pinned,
        expires_at=prepared.expires_at,
        valid_from=prepared.valid_from,
        valid_to=prepared.valid_to,
        delegation_id=prepared.delegation_id,
        file_id=prepared.file_id,
        metadata=prepared.metadata,
        redactions=sum(prepared.redactions.values()),
        embed_state="pending" if embed else "none",
        change=change,
        created_at=prepared.created_at,
    )
