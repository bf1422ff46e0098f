"""Templates: what the platform has of them, and making an organisation of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import json_format
from moleculeai.admin.v1 import template_pb2 as pb

from molecule_grpc.client.connection import Connection

# A template has up to 500 workspaces, each of which is a transaction.
_IMPORT_SECONDS: Final = 60.0


class Templates:
    """Calls about templates.

    Args:
        connection: with an operator's or an organisation's token.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def of_organizations(self) -> list[pb.OrgTemplate]:
        """The templates of organisations that lie on the server, by name of their directory."""
        call = self._connection.admin.ListOrgTemplates
        answer = await self._connection.call(call, pb.ListOrgTemplatesRequest(), retry=True)
        return list(answer.templates)

    async def of_workspaces(self) -> list[pb.WorkspaceTemplate]:
        """The templates of workspaces that lie on the server, by name of their directory."""
        call = self._connection.admin.ListTemplates
        answer = await self._connection.call(call, pb.ListTemplatesRequest(), retry=True)
        return list(answer.templates)

    async def import_org(
        self,
        directory: str = "",
        *,
        archive: bytes = b"",
        inline: Mapping[str, Any] | None = None,
        force: bool = False,
        dry_run: bool = False,
        organization_id: str = "",
    ) -> pb.ImportOrgResponse:
        """Create the workspaces of a template and begin to start them; a repeat creates nothing.

        Args:
            directory: name of a template on the server. Or else one of the next two:
            archive: a tar, a tar.gz or a zip with an `org.yaml`, at most 2,900,000 bytes.
            inline: the content of an `org.yaml` without includes.
            force: import although required variables have no value.
            dry_run: say only what an import would do.
            organization_id: for an operator; empty for the caller's own, or the default one.

        Raises:
            InvalidArgument: TEMPLATE_INVALID: the message says where.
            NotFound: TEMPLATE_NOT_FOUND.
            FailedPrecondition: ENV_MISSING.
        """
        request = pb.ImportOrgRequest(
            dir=directory,
            archive=archive,
            force=force,
            dry_run=dry_run,
            organization_id=organization_id,
        )
        if inline is not None:
            json_format.ParseDict(dict(inline), request.template)
        return await self._connection.call(
            self._connection.admin.ImportOrg, request, retry=True, timeout=_IMPORT_SECONDS
        )
