"""Organisations, the ledger of delegations, the audit log, and memories as a whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from moleculeai.admin.v1 import admin_service_pb2 as admin_pb

from molecule_grpc.client.connected import Connected
from molecule_grpc.client.memory_admin import MemoryAdmin
from molecule_grpc.client.memory_files import exported, imported

_PAGE = 500
_LEDGER_PAGE = 1000


class Administration(Connected):
    """The part of `Platform` that concerns installations and organisations."""

    async def create_organization(self, slug: str, name: str = "") -> admin_pb.Organization:
        """Add an organisation. For the operator.

        Args:
            slug: 1 to 63 lower-case letters, digits and dashes, unique.
            name: for people, at most 255 bytes; empty for the slug.

        Raises:
            AlreadyExists: ORGANIZATION_EXISTS.
        """
        request = admin_pb.CreateOrganizationRequest(slug=slug, name=name)
        return await self.connection.call(
            self.connection.admin.CreateOrganization, request, retry=False
        )

    async def organizations(self) -> list[admin_pb.Organization]:
        """Every organisation, oldest first. For the operator."""
        request = admin_pb.ListOrganizationsRequest(limit=_PAGE)
        pages = self.connection.pages(self.connection.admin.ListOrganizations, request)
        return [made async for page in pages for made in page.organizations]

    async def ledger(self, status: str = "", limit: int = 100) -> list[admin_pb.LedgerEntry]:
        """Delegations across workspaces, newest first.

        Args:
            status: in_flight, stuck, failed or completed; empty for in_flight.
            limit: most delegations, however many pages those fill.

        Raises:
            InvalidArgument: no such status, or the limit is below 1.
        """
        request = admin_pb.ListDelegationsRequest(status=status, limit=min(limit, _LEDGER_PAGE))
        found: list[admin_pb.LedgerEntry] = []
        async for page in self.connection.pages(self.connection.admin.ListDelegations, request):
            found += page.delegations
            if len(found) >= limit:
                break
        return found[:limit]

    async def audit_log(
        self, workspace_id: str = "", limit: int = 100
    ) -> list[admin_pb.AuditEntry]:
        """Who did what, newest first. For administrators; an organisation sees its own entries.

        Args:
            workspace_id: only what concerns this workspace; empty for all.
            limit: most entries.
        """
        request = admin_pb.ListAuditLogRequest(workspace_id=workspace_id, limit=min(limit, _PAGE))
        found: list[admin_pb.AuditEntry] = []
        async for page in self.connection.pages(self.connection.admin.ListAuditLog, request):
            found += page.entries
            if len(found) >= limit:
                break
        return found[:limit]

    @property
    def memories(self) -> MemoryAdmin:
        """Rights to memories, quarantine of authors, and namespaces as a whole."""
        return MemoryAdmin(self.connection)

    def export_memories(self, organization_id: str = "") -> AsyncIterator[bytes]:
        """All memories as one JSON array, in pieces that may be cut anywhere.

        Args:
            organization_id: whose; empty for the caller's own, or for all.
        """
        return exported(self.connection, organization_id)

    async def import_memories(
        self, path: Path, organization_id: str = ""
    ) -> admin_pb.ImportMemoriesResponse:
        """Commit the memories of an export's file. A repeat stores nothing twice.

        Args:
            path: a file of JSON as `export_memories` gives it.
            organization_id: whose; empty for the caller's own, or the default one.

        Raises:
            InvalidArgument: the file holds no JSON array of objects.
            OSError: the file cannot be read.
        """
        return await imported(self.connection, path, organization_id)
