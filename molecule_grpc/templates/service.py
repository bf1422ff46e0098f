"""The RPCs of templates, converted to the use cases that serve them and back."""

from __future__ import annotations

from http import HTTPStatus

from google.protobuf.descriptor import ServiceDescriptor
from moleculeai.admin.v1 import admin_service_pb2, template_pb2

from molecule_grpc.kernel.ids import parse_id
from molecule_grpc.server.call import Call
from molecule_grpc.templates import convert
from molecule_grpc.templates.catalogue import Catalogue
from molecule_grpc.templates.importing import OrgImport


class TemplatesService:
    """Serves what AdminService has of templates."""

    def __init__(self, catalogue: Catalogue, org_import: OrgImport) -> None:
        self._catalogue = catalogue
        self._org_import = org_import

    async def ListOrgTemplates(
        self, request: template_pb2.ListOrgTemplatesRequest, call: Call
    ) -> template_pb2.ListOrgTemplatesResponse:
        found = await self._catalogue.org_templates()
        return template_pb2.ListOrgTemplatesResponse(
            templates=[convert.org_template(each) for each in found]
        )

    async def ListTemplates(
        self, request: template_pb2.ListTemplatesRequest, call: Call
    ) -> template_pb2.ListTemplatesResponse:
        found = await self._catalogue.workspace_templates()
        return template_pb2.ListTemplatesResponse(
            templates=[convert.workspace_template(each) for each in found]
        )

    async def ImportOrg(
        self, request: template_pb2.ImportOrgRequest, call: Call
    ) -> template_pb2.ImportOrgResponse:
        named = request.organization_id
        result = await self._org_import.run(
            call.principal,
            convert.source(request),
            organization_id=parse_id(named, "organization_id") if named else None,
            force=request.force,
            dry_run=request.dry_run,
        )
        if result.dry_run:
            call.set_http_status(HTTPStatus.OK)
        elif result.error:
            call.set_http_status(HTTPStatus.MULTI_STATUS)
        return convert.imported(result)


def handlers(service: TemplatesService) -> tuple[ServiceDescriptor, object]:
    """The descriptor of AdminService with the handlers of this slice."""
    return admin_service_pb2.DESCRIPTOR.services_by_name["AdminService"], service
