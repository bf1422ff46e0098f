"""The images that workspaces are started from."""

from __future__ import annotations

from moleculeai.admin.v1 import admin_service_pb2 as pb
from moleculeai.admin.v1 import image_pb2

from molecule_grpc.client.connection import Connection

# Seconds: the server gives registries five minutes.
_PULL_TIMEOUT = 310.0


class Images:
    """Calls about images; every one but `roll_back` without `from_digest` may be repeated.

    Args:
        connection: with an operator's token.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def list_all(self) -> list[image_pb2.WorkspaceImage]:
        """The images of all runtimes, by runtime, with their pins."""
        call = self._connection.admin.ListImages
        found = await self._connection.call(call, pb.ListImagesRequest(), retry=True)
        return list(found.images)

    async def pin(self, runtime: str, digest: str) -> image_pb2.WorkspaceImage:
        """Start a runtime's workspaces from one image from now on.

        Args:
            digest: `sha256:` and 64 hexadecimal digits.

        Raises:
            InvalidArgument: RUNTIME_UNKNOWN.
        """
        request = pb.PinImageRequest(runtime=runtime, digest=digest)
        return await self._connection.call(self._connection.admin.PinImage, request, retry=True)

    async def unpin(self, runtime: str) -> None:
        """Start them from what the image's name means.

        Raises:
            NotFound: IMAGE_NOT_PINNED.
        """
        request = pb.UnpinImageRequest(runtime=runtime)
        await self._connection.call(self._connection.admin.UnpinImage, request, retry=False)

    async def promote(self, runtime: str) -> image_pb2.WorkspaceImage:
        """Pull what the image's name means now, and pin the runtime to that. Takes up to 5 minutes.

        Raises:
            InvalidArgument: RUNTIME_UNKNOWN.
            Unavailable: IMAGE_UNAVAILABLE, or NO_BACKEND.
            FailedPrecondition: IMAGE_LOCAL: no registry knows the image.
        """
        request = pb.PromoteImageRequest(runtime=runtime)
        call = self._connection.admin.PromoteImage
        return await self._connection.call(call, request, retry=False, timeout=_PULL_TIMEOUT)

    async def roll_back(self, runtime: str, from_digest: str = "") -> image_pb2.WorkspaceImage:
        """Pin a runtime to the image before.

        Args:
            from_digest: only if it is pinned to this one; empty for whatever it is pinned to.

        Raises:
            NotFound: IMAGE_NOT_PINNED.
            FailedPrecondition: NO_EARLIER_IMAGE.
        """
        request = pb.RollbackImageRequest(runtime=runtime, from_digest=from_digest)
        call = self._connection.admin.RollbackImage
        return await self._connection.call(call, request, retry=bool(from_digest))

    async def refresh(
        self, runtime: str = "", *, recreate: bool = False
    ) -> pb.RefreshImagesResponse:
        """Pull images anew. Takes up to 5 minutes.

        Args:
            runtime: only this one; empty for all.
            recreate: restart the workspaces that run another image than the one pulled.

        Raises:
            InvalidArgument: RUNTIME_UNKNOWN.
            Unavailable: NO_BACKEND.
        """
        request = pb.RefreshImagesRequest(runtime=runtime, recreate=recreate)
        call = self._connection.admin.RefreshImages
        return await self._connection.call(call, request, retry=False, timeout=_PULL_TIMEOUT)
