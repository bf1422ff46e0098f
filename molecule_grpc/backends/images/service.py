"""The RPCs of AdminService that concern images."""

from __future__ import annotations

from google.protobuf.descriptor import ServiceDescriptor
from moleculeai.admin.v1 import admin_service_pb2 as pb
from moleculeai.admin.v1 import image_pb2

from molecule_grpc.backends.images.pins import Image, Pins
from molecule_grpc.backends.images.refresh import Refresh
from molecule_grpc.kernel.protos import timestamp
from molecule_grpc.server.call import Call


class ImagesService:
    """Requests to values and back."""

    def __init__(self, pins: Pins, refresh: Refresh) -> None:
        self._pins = pins
        self._refresh = refresh

    async def ListImages(self, request: pb.ListImagesRequest, call: Call) -> pb.ListImagesResponse:
        found = await self._pins.list_all()
        return pb.ListImagesResponse(images=[_image(each) for each in found])

    async def PinImage(self, request: pb.PinImageRequest, call: Call) -> image_pb2.WorkspaceImage:
        return _image(await self._pins.pin(request.runtime, request.digest))

    async def UnpinImage(self, request: pb.UnpinImageRequest, call: Call) -> pb.UnpinImageResponse:
        await self._pins.unpin(request.runtime)
        return pb.UnpinImageResponse(status="unpinned")

    async def PromoteImage(
        self, request: pb.PromoteImageRequest, call: Call
    ) -> image_pb2.WorkspaceImage:
        return _image(await self._pins.promote(request.runtime))

    async def RollbackImage(
        self, request: pb.RollbackImageRequest, call: Call
    ) -> image_pb2.WorkspaceImage:
        return _image(await self._pins.roll_back(request.runtime, request.from_digest))

    async def RefreshImages(
        self, request: pb.RefreshImagesRequest, call: Call
    ) -> pb.RefreshImagesResponse:
        done = await self._refresh.refresh(request.runtime, recreate=request.recreate)
        return pb.RefreshImagesResponse(
            pulled=done.pulled,
            failed=[
                image_pb2.FailedImage(runtime=each.runtime, reason=each.reason, error=each.error)
                for each in done.failed
            ],
            recreated=[str(each) for each in done.recreated],
            recreated_count=done.recreated_count,
        )


def _image(image: Image) -> image_pb2.WorkspaceImage:
    pin = image.pin
    return image_pb2.WorkspaceImage(
        runtime=image.runtime,
        reference=image.reference,
        moving=image.moving,
        pinned_digest=pin.digests[0] if pin else "",
        earlier_digests=pin.digests[1:] if pin else (),
        pinned_at=timestamp(pin.pinned_at) if pin else None,
        workspaces=image.counts.workspaces,
        outdated=image.counts.outdated,
    )


def handlers(service: ImagesService) -> tuple[ServiceDescriptor, object]:
    """The descriptor of AdminService with the handlers of this room."""
    return pb.DESCRIPTOR.services_by_name["AdminService"], service
