"""Memories of a plugin on their way out of the installation."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.kernel.slices import in_slices
from molecule_grpc.memory.contract.errors import ErrorCode, StoreError
from molecule_grpc.memory.contract.objects import Capability, Memory
from molecule_grpc.memory.exports import exported, no_organization
from molecule_grpc.memory.plugin import refusals
from molecule_grpc.memory.plugin.client import PluginClient
from molecule_grpc.memory.plugin.rows import row_of
from molecule_grpc.memory.plugin.store import authors, places
from molecule_grpc.memory.plugin.wire_names import WireNames
from molecule_grpc.memory.store.transfer import ExportRow, organization_exists
from molecule_grpc.memory.values import MemoryRow

_NOBODY = UUID(int=0)


class _Place(NamedTuple):
    organization_id: UUID
    namespace: str
    anchor_id: UUID | None
    anchor_name: str | None


class PluginExports:
    """Lists every namespace that workspaces and grants of the platform give rise to.

    Args:
        key: of the installation.
    """

    def __init__(self, pool: Pool, client: PluginClient, key: bytes) -> None:
        self._pool = pool
        self._client = client
        self._key = key

    async def pieces(self, organization_id: UUID | None) -> AsyncGenerator[bytes, None]:
        """The array, a piece a page of the plugin. A failed export lacks the closing bracket.

        Args:
            organization_id: whose; None for all.

        Raises:
            NotFound: ORGANIZATION_NOT_FOUND, before the first piece.
            Unsupported: MEMORY_PLUGIN_UNSUPPORTED: the plugin cannot list a namespace.
            Unavailable: MEMORY_PLUGIN_UNAVAILABLE, or the database does not answer.
        """
        with database_errors():
            if organization_id is not None and not await organization_exists(
                self._pool, organization_id
            ):
                raise no_organization()
        if not self._client.supports(Capability.LIST):
            raise refusals.unsupported("an export without the plugin's capability `list`")
        opening = b"["
        async for place in self._places(organization_id):
            async for rows in self._pages(place):
                yield opening + b",".join(await in_slices(exported, rows))
                opening = b","
        yield b"[]" if opening == b"[" else b"]"

    async def _places(self, organization_id: UUID | None) -> AsyncGenerator[_Place, None]:
        after = (_NOBODY, _NOBODY)
        while True:
            with database_errors():
                anchors = await places.anchors(self._pool, organization_id, after)
            if not anchors:
                break
            for each in anchors:
                kinds = ("workspace", *["team"] * each.leads, *["org"] * each.is_root)
                for kind in kinds:
                    yield _Place(each.organization_id, f"{kind}:{each.id}", each.id, each.name)
            after = (anchors[-1].organization_id, anchors[-1].id)
        named = (_NOBODY, "")
        while True:
            with database_errors():
                customs = await places.customs(self._pool, organization_id, named)
            if not customs:
                break
            for custom in customs:
                yield _Place(custom.organization_id, custom.name, None, None)
            named = (customs[-1].organization_id, customs[-1].name)

    async def _pages(self, place: _Place) -> AsyncGenerator[list[ExportRow], None]:
        names = WireNames(self._key, place.organization_id)
        wire, cursor = names.namespace(place.namespace), ""
        while True:
            try:
                page = await self._client.page(wire, cursor)
            except StoreError as error:
                if error.code is ErrorCode.NOT_FOUND:
                    return  # Nobody has written there.
                raise refusals.named(error, "export") from error
            if rows := await self._rows(place, names, page.memories):
                yield rows
            if page.next_cursor is None or page.next_cursor == cursor:
                return
            cursor = page.next_cursor

    async def _rows(
        self, place: _Place, names: WireNames, memories: list[Memory]
    ) -> list[ExportRow]:
        now = datetime.now(UTC)
        rows = [row_of(memory, place.namespace, names) for memory in memories]
        rows = [row for row in rows if not _is_over(row, now)]
        ids = list({row.author_id for row in rows if row.author_id is not None})
        with database_errors():
            known = await authors.authors(self._pool, place.organization_id, ids)
        return [_exportable(place, row, known) for row in rows if _is_trusted(row, known)]


def _is_over(row: MemoryRow, now: datetime) -> bool:
    ends = (row.valid_to, row.expires_at)
    return any(end is not None and end <= now for end in ends)


def _is_trusted(row: MemoryRow, known: dict[UUID, authors.Author]) -> bool:
    author = None if row.author_id is None else known.get(row.author_id)
    return author is None or author.trusted


def _exportable(place: _Place, row: MemoryRow, known: dict[UUID, authors.Author]) -> ExportRow:
    author = None if row.author_id is None else known.get(row.author_id)
    shared = set(ExportRow._fields) - {"author_name"}
    return ExportRow(
        **{name: value for name, value in row._asdict().items() if name in shared},
        organization_id=place.organization_id,
        anchor_id=place.anchor_id or row.author_id,
        before=0,
        workspace_name=place.anchor_name or (author.name if author else None),
        author_name=author.name if author else None,
    )
