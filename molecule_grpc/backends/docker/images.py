"""The image of a workspace: pulled when it is missing, or when its tag may have moved."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from aiodocker.exceptions import DockerError

from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason
from molecule_grpc.backends.contract.names import BackendName
from molecule_grpc.backends.contract.workloads import StartRequest
from molecule_grpc.backends.docker.credentials import registry_header
from molecule_grpc.backends.docker.engine import Engine
from molecule_grpc.backends.docker.failures import calling, failure_of, is_missing
from molecule_grpc.backends.docker.names import Json
from molecule_grpc.backends.docker.rules import image_of, image_tag_is_moving
from molecule_grpc.backends.references import pinned, repository_of
from molecule_grpc.settings.docker import DockerSettings

log = structlog.get_logger(__name__)


# For asking whether a moving tag names another image. Without an answer the old one starts.
_REFRESH_SECONDS: Final = 60.0


class Images:
    """Finds images on the engine, and has it pull them."""

    backend: Final = BackendName.DOCKER

    def __init__(self, engine: Engine, settings: DockerSettings) -> None:
        self._engine = engine
        self._settings = settings
        by_name = (settings.ghcr_user, settings.ghcr_token)
        self._given = {"ghcr.io": by_name} if all(by_name) else {}

    def reference(self, request: StartRequest) -> str:
        """The image that a start asks for, or that its runtime has, pinned or not."""
        if request.image:
            return request.image
        reference = self.reference_of(request.runtime)
        return pinned(reference, request.image_digest) if request.image_digest else reference

    @property
    def runtimes(self) -> tuple[str, ...]:
        """Those whose image is named in the settings."""
        return tuple(name for name, _ in self._settings.images)

    def reference_of(self, runtime: str) -> str:
        """The name of a runtime's image, without a pin."""
        settings = self._settings
        return image_of(
            runtime, dict(settings.images), settings.image_template, settings.default_runtime
        )

    def moves(self, reference: str) -> bool:
        """Whether the name may mean another image tomorrow."""
        return image_tag_is_moving(reference)

    async def pull(self, runtime: str, digest: str, *, deadline: float) -> str:
        """Pull a runtime's image, or the image of a digest. Returns the pulled image's digest.

        Empty for an image that no registry knows.

        Raises:
            BackendFailure: it did not come.
        """
        if self._settings.local_images:
            raise BackendFailure(
                FailureReason.CONFIGURATION,
                "pulling is turned off by WORKSPACE_IMAGE_LOCAL_OVERRIDE",
            )
        reference = self.reference_of(runtime)
        reference = pinned(reference, digest) if digest else reference
        async with calling(deadline):
            if failure := await self._pull(reference):
                raise failure
            found = await self.find(reference)
        if found is None:
            raise BackendFailure(FailureReason.IMAGE_MISSING, "the image was removed meanwhile")
        return registry_digest_of(found, reference)

    async def registry_digest(self, runtime: str, *, deadline: float) -> str:
        """The digest of what the name of a runtime's image means in its registry now.

        Raises:
            BackendFailure: the registry or the engine does not say.
        """
        reference = self.reference_of(runtime)
        async with calling(deadline):
            headers = await registry_header(reference, self._given)
            path = f"distribution/{reference}/json"
            async with self._engine.request("GET", path, headers=headers) as answer:
                found: Json = await answer.json()
        return str(found["Descriptor"]["digest"])

    async def require(self, reference: str) -> Json:
        """The engine's record of an image, after a pull where the engine lacks it or its tag moves.

        A pull that fails is logged and forgotten where an older image is there: a registry that is
        away keeps nobody from starting.

        Raises:
            BackendFailure: `image_missing`, `image_refused`: there is none, and none can be pulled.
        """
        found = await self.find(reference)
        if self._settings.local_images or (found and not image_tag_is_moving(reference)):
            pulled = None
        else:
            limit = None if found is None else _REFRESH_SECONDS
            pulled = await self._pull_within(limit, reference)
            found = await self.find(reference) if pulled is None else found
        if found is None:
            raise _missing(reference, pulled)
        return found

    async def _pull_within(self, limit: float | None, reference: str) -> BackendFailure | None:
        try:
            async with asyncio.timeout(limit):
                return await self._pull(reference)
        except TimeoutError:
            log.warning("image not pulled in time", image=reference)
            return BackendFailure(FailureReason.TIMEOUT, "the registry did not answer in time")

    async def find(self, reference: str) -> Json | None:
        """The engine's record of an image; None for an image that the engine lacks."""
        try:
            found: Json = await self._engine.get(f"images/{reference}/json")
        except DockerError as error:
            if is_missing(error):
                return None
            raise
        return found

    async def _pull(self, reference: str) -> BackendFailure | None:
        """Pull the image. Returns the failure, or None after success."""
        name, tag = _parts(reference)
        query = {"fromImage": name, "tag": tag, "platform": self._settings.image_platform}
        headers = await registry_header(reference, self._given)
        try:
            async with self._engine.request(
                "POST", "images/create", params=query, headers=headers
            ) as answer:
                # The engine answers 200 at once, and tells of an error on a line of its own.
                text = (await answer.read()).decode(errors="replace")
        except DockerError as error:
            failure = failure_of(error)
        else:
            if '"errorDetail"' not in text:
                return None
            failure = failure_of(DockerError(500, text[-1024:]))
        log.warning("image not pulled", image=reference, error=str(failure))
        return failure


def digest_of(image: Json, reference: str) -> str:
    """By which a registry knows the image; for one that was made here, the engine's own id."""
    return registry_digest_of(image, reference) or str(image.get("Id", ""))


def registry_digest_of(image: Json, reference: str) -> str:
    """The image's digest in the reference's registry; empty for an image built on this engine."""
    known = dict(entry.rsplit("@", 1) for entry in image.get("RepoDigests") or [])
    return known.get(repository_of(reference)) or next(iter(known.values()), "")


def _parts(reference: str) -> tuple[str, str]:
    """Name and tag as a pull takes them; a digest goes as the tag."""
    if "@" in reference:
        name, _, digest = reference.partition("@")
        return name, digest
    name, colon, tag = reference.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (reference, "latest")


def _missing(reference: str, pulled: BackendFailure | None) -> BackendFailure:
    if pulled is not None and pulled.reason is FailureReason.IMAGE_REFUSED:
        public = f"the registry refuses the image {reference}"
        return BackendFailure(FailureReason.IMAGE_REFUSED, public, detail=pulled.detail)
    detail = pulled.detail if pulled else "not on the engine, and pulling is turned off"
    return BackendFailure(
        FailureReason.IMAGE_MISSING, f"the image {reference} is not there", detail=detail
    )
