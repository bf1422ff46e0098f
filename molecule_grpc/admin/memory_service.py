"""The RPCs of AdminService that concern memories, converted to the use cases that serve them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import cast
from uuid import UUID

from google.api import httpbody_pb2
from moleculeai.admin.v1 import admin_service_pb2 as pb

from molecule_grpc.admin.memory_ports import (
    AuthorQuarantine,
    MemoryExports,
    MemoryGrant,
    MemoryImports,
    MemoryRights,
    MemoryStats,
)
from molecule_grpc.admin.organizations import author_of, no_organization, visible_organization
from molecule_grpc.db.wakeups import Flag
from molecule_grpc.directory import DEFAULT_ORGANIZATION
from molecule_grpc.kernel.errors import Aborted
from molecule_grpc.kernel.ids import identifier, new_id, parse_id
from molecule_grpc.kernel.page import page_of
from molecule_grpc.kernel.page_tokens import PageTokens
from molecule_grpc.kernel.protos import timestamp
from molecule_grpc.kernel.text import clean
from molecule_grpc.server.call import Call
from molecule_grpc.server.streams import StreamGuard, StreamGuards

_MOST_ROWS = 1000
_MAX_COUNT = 2**31 - 1
_IDLE_SECONDS = 60.0
_GRANTS = "memory grants"
_QUARANTINES = "memory quarantines"


class MemoryAdministration:
    """Serves the part of `moleculeai.admin.v1.AdminService` that concerns memories.

    Args:
        rights: grants, namespaces and quarantine.
        exports: all memories on their way out.
        imports: memories on their way in.
        guards: end what lasts with its token.
    """

    def __init__(
        self,
        rights: MemoryRights,
        exports: MemoryExports,
        imports: MemoryImports,
        page_tokens: PageTokens,
        guards: StreamGuards,
    ) -> None:
        self._rights = rights
        self._exports = exports
        self._imports = imports
        self._page_tokens = page_tokens
        self._guards = guards

    async def export(
        self, request: pb.ExportMemoriesRequest, call: Call
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        organization_id = _asked(request.organization_id, call)
        with self._guards.watch(Flag(new_id()), call) as guard:
            async with (
                aclosing(self._exports.pieces(organization_id)) as pieces,
                aclosing(guard.each(pieces)) as guarded,
            ):
                async for piece in guarded:
                    yield httpbody_pb2.HttpBody(content_type="application/json", data=piece)

    async def import_(
        self, requests: AsyncIterator[pb.ImportMemoriesRequest], call: Call
    ) -> pb.ImportMemoriesResponse:
        first = await anext(requests)
        home = _home(first.organization_id, call)
        with self._guards.watch(Flag(new_id()), call) as guard:
            async with guard.interruptible():
                done = await self._imports.run(home, _pieces(first, requests, guard))
        return pb.ImportMemoriesResponse(
            imported=done.imported,
            skipped=done.skipped,
            errors=done.errors,
            total=done.total,
            skips=[
                pb.ImportMemoriesResponse.Skip(index=each.place, reason=each.reason)
                for each in done.skips
            ],
        )

    async def set_grant(self, request: pb.SetMemoryGrantRequest, call: Call) -> pb.MemoryGrant:
        grant = await self._rights.set(
            visible_organization(call.principal),
            identifier(request.namespace, "namespace"),
            parse_id(request.workspace_id, "workspace_id"),
            can_write=request.can_write,
            granted_by=author_of(call.principal),
        )
        return _grant(grant)

    async def list_grants(
        self, request: pb.ListMemoryGrantsRequest, call: Call
    ) -> pb.ListMemoryGrantsResponse:
        parts = self._page_tokens.read(_GRANTS, request.page_token, str, UUID)
        most = request.limit or _MOST_ROWS
        rows = await self._rights.list(
            visible_organization(call.principal),
            namespace=clean(request.namespace),
            workspace_id=_optional_id(request.workspace_id, "workspace_id"),
            after=None if parts is None else cast("tuple[str, UUID]", tuple(parts)),
            limit=most + 1,
        )
        page = page_of(rows, limit=most)
        if page.last is not None:
            call.headers["x-next-page-token"] = self._page_tokens.make(
                _GRANTS, page.last.namespace, page.last.workspace_id
            )
        return pb.ListMemoryGrantsResponse(grants=map(_grant, page.rows))

    async def delete_grant(
        self, request: pb.DeleteMemoryGrantRequest, call: Call
    ) -> pb.DeleteMemoryGrantResponse:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        await self._rights.delete(
            visible_organization(call.principal),
            identifier(request.namespace, "namespace"),
            workspace_id,
        )
        return pb.DeleteMemoryGrantResponse(status="deleted")

    async def move(
        self, request: pb.MoveMemoryNamespaceRequest, call: Call
    ) -> pb.MoveMemoryNamespaceResponse:
        moved = await self._rights.move(
            _home(request.organization_id, call),
            identifier(request.source, "source"),
            identifier(request.target, "target"),
        )
        return pb.MoveMemoryNamespaceResponse(moved=min(moved, _MAX_COUNT))

    async def delete_namespace(
        self, request: pb.DeleteMemoryNamespaceRequest, call: Call
    ) -> pb.DeleteMemoryNamespaceResponse:
        removed = await self._rights.delete_namespace(
            _home(request.organization_id, call), identifier(request.namespace, "namespace")
        )
        return pb.DeleteMemoryNamespaceResponse(removed=min(removed, _MAX_COUNT))

    async def stats(
        self, request: pb.GetMemoryStatsRequest, call: Call
    ) -> pb.GetMemoryStatsResponse:
        return _stats(await self._rights.stats(_asked(request.organization_id, call)))

    async def quarantine(
        self, request: pb.SetAuthorQuarantineRequest, call: Call
    ) -> pb.AuthorQuarantine:
        row = await self._rights.quarantine(
            visible_organization(call.principal),
            parse_id(request.workspace_id, "workspace_id"),
            reason=clean(request.reason),
            created_by=author_of(call.principal),
        )
        return _quarantine(row)

    async def quarantines(
        self, request: pb.ListAuthorQuarantinesRequest, call: Call
    ) -> pb.ListAuthorQuarantinesResponse:
        parts = self._page_tokens.read(_QUARANTINES, request.page_token, datetime, UUID)
        most = request.limit or _MOST_ROWS
        rows = await self._rights.quarantines(
            visible_organization(call.principal),
            after=None if parts is None else cast("tuple[datetime, UUID]", tuple(parts)),
            limit=most + 1,
        )
        page = page_of(rows, limit=most)
        if page.last is not None:
            call.headers["x-next-page-token"] = self._page_tokens.make(
                _QUARANTINES, page.last.created_at, page.last.author_id
            )
        return pb.ListAuthorQuarantinesResponse(quarantines=map(_quarantine, page.rows))

    async def release(
        self, request: pb.DeleteAuthorQuarantineRequest, call: Call
    ) -> pb.DeleteAuthorQuarantineResponse:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        await self._rights.release(visible_organization(call.principal), workspace_id)
        return pb.DeleteAuthorQuarantineResponse(status="deleted")


async def _pieces(
    first: pb.ImportMemoriesRequest,
    rest: AsyncIterator[pb.ImportMemoriesRequest],
    guard: StreamGuard,
) -> AsyncIterator[bytes]:
    """The bytes of a body whose first piece was read already.

    Raises:
        Aborted: UPLOAD_STALLED: the client sent nothing for 60 s.
    """
    yield first.body.data
    while True:
        try:
            message = await guard.receive(rest, _IDLE_SECONDS)
        except TimeoutError:
            raise Aborted("the import stalled", reason="UPLOAD_STALLED") from None
        if message is None:
            return
        yield message.body.data


def _asked(organization_id: str, call: Call) -> UUID | None:
    """Whose memories a caller asks for; None for all. Raises `NotFound` for a foreign one."""
    own = visible_organization(call.principal)
    asked = _optional_id(organization_id, "organization_id")
    if own is not None and asked not in (None, own):
        raise no_organization()
    return asked or own


def _home(organization_id: str, call: Call) -> UUID:
    """The organisation of a call: asked for, the caller's own, or else the default organisation."""
    return _asked(organization_id, call) or DEFAULT_ORGANIZATION


def _optional_id(text: str, field: str) -> UUID | None:
    return parse_id(text, field) if text else None


def _grant(row: MemoryGrant) -> pb.MemoryGrant:
    return pb.MemoryGrant(
        namespace=row.namespace,
        workspace_id=str(row.workspace_id),
        can_write=row.can_write,
        granted_by=row.granted_by,
        created_at=timestamp(row.created_at),
    )


def _quarantine(row: AuthorQuarantine) -> pb.AuthorQuarantine:
    return pb.AuthorQuarantine(
        workspace_id=str(row.author_id),
        reason=row.reason,
        created_by=row.created_by,
        created_at=timestamp(row.created_at),
    )


def _stats(found: MemoryStats) -> pb.GetMemoryStatsResponse:
    return pb.GetMemoryStatsResponse(
        namespaces=min(found.namespaces, _MAX_COUNT),
        memories=min(found.memories, _MAX_COUNT),
        bytes=found.bytes,
        embed_pending=min(found.embed_pending, _MAX_COUNT),
        embed_failed=min(found.embed_failed, _MAX_COUNT),
        quarantined_authors=min(found.quarantined_authors, _MAX_COUNT),
        largest=[
            pb.GetMemoryStatsResponse.NamespaceStats(
                namespace=each.namespace,
                organization_id=str(each.organization_id),
                memories=min(each.memories, _MAX_COUNT),
                bytes=each.bytes,
            )
            for each in found.largest
        ],
    )
