"""The RPCs of WorkspaceService about bundles, and the use cases that serve them."""

from __future__ import annotations

from google.protobuf.descriptor import ServiceDescriptor
from moleculeai.workspace.v1 import bundle_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.auth.principal import Role
from molecule_grpc.bundles import convert
from molecule_grpc.bundles.exporting import Export
from molecule_grpc.bundles.importing import Import
from molecule_grpc.kernel.ids import parse_id
from molecule_grpc.server.call import Call


class BundlesService:
    """Serves what WorkspaceService has of bundles."""

    def __init__(self, exports: Export, imports: Import) -> None:
        self._exports = exports
        self._imports = imports

    async def ExportBundle(
        self, request: bundle_pb2.ExportBundleRequest, call: Call
    ) -> bundle_pb2.Bundle:
        principal = call.principal
        within = None if principal.role is Role.OPERATOR else principal.organization_id
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        return await convert.bundle_message(await self._exports.export(workspace_id, within), call)

    async def ImportBundle(
        self, request: bundle_pb2.ImportBundleRequest, call: Call
    ) -> bundle_pb2.ImportBundleResponse:
        named = request.organization_id
        organization_id = parse_id(named, "organization_id") if named else None
        bundle = await convert.bundle(request.bundle, call)
        done = await self._imports.import_(call.principal, bundle, organization_id)
        return convert.outcome(done)


def handlers(service: BundlesService) -> tuple[ServiceDescriptor, object]:
    """The descriptor of WorkspaceService with the handlers of this slice."""
    return pb.DESCRIPTOR.services_by_name["WorkspaceService"], service
