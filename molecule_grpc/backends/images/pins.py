"""Pins: which image the workspaces of a runtime are started from."""

from __future__ import annotations

from typing import Final, NamedTuple
from uuid import UUID

import structlog

from molecule_grpc.backends.contract.failures import BackendFailure
from molecule_grpc.backends.images import rules
from molecule_grpc.backends.images.ports import ImageEngine
from molecule_grpc.backends.images.store import pins as store
from molecule_grpc.backends.images.store.pins import Counts, Pin
from molecule_grpc.db.pool import Pool
from molecule_grpc.kernel.errors import Conflict, Invalid, NotFound, Unavailable

log = structlog.get_logger(__name__)

PULL_SECONDS: Final = 300.0
_NOBODY: Final = Counts(0, 0)


class Image(NamedTuple):
    """The image of a runtime.

    Args:
        reference: without a pin; empty where no engine has images.
    """

    runtime: str
    reference: str
    moving: bool
    pin: Pin | None
    counts: Counts


class Pins:
    """Reads and changes pins.

    Args:
        engine: None where no backend has images.
        ignored: whether starts ignore pins, because the engine's own images are used.
    """

    def __init__(self, pool: Pool, engine: ImageEngine | None, *, ignored: bool) -> None:
        self._pool = pool
        self._engine = engine
        self._ignored = ignored

    async def of_workspace(self, workspace_id: UUID) -> str:
        """The digest that a start of the workspace is pinned to; empty for none.

        A database that does not answer pins nothing: a start with the newest image is better than
        none, and one that the rest of the start cannot do without the database fails anyhow.
        """
        if self._ignored:
            return ""
        try:
            return await store.of_workspace(self._pool, workspace_id)
        except Exception:
            log.exception("a pin was not read", workspace_id=str(workspace_id))
            return ""

    async def runtimes(self) -> list[str]:
        """Every runtime that has an image, by name."""
        configured = self._engine.runtimes if self._engine else ()
        return rules.runtimes(configured, await store.all_pins(self._pool))

    async def require(self, runtime: str) -> None:
        """Raise for a runtime that nobody knows.

        Raises:
            Invalid: RUNTIME_UNKNOWN.
        """
        known = await self.runtimes()
        if runtime not in known:
            raise Invalid(
                "unknown runtime",
                field="runtime",
                reason="RUNTIME_UNKNOWN",
                body={"known_runtimes": known},
            )

    async def list_all(self) -> list[Image]:
        """The images of all runtimes, by runtime."""
        pins, names = await store.all_pins(self._pool), await self.runtimes()
        counts = await store.counts(self._pool, names)
        return [self._image(name, pins.get(name), counts.get(name, _NOBODY)) for name in names]

    async def pin(self, runtime: str, digest: str) -> Image:
        """Start the runtime's workspaces from this image from now on.

        Raises:
            Invalid: RUNTIME_UNKNOWN.
        """
        await self.require(runtime)
        await store.pin(self._pool, runtime, digest)
        return await self._one(runtime)

    async def unpin(self, runtime: str) -> None:
        """Start them from what the image's name means.

        Raises:
            NotFound: IMAGE_NOT_PINNED.
        """
        if not await store.unpin(self._pool, runtime):
            raise _not_pinned()

    async def promote(self, runtime: str) -> Image:
        """Pin a runtime to what its image's name means now.

        Raises:
            Invalid: RUNTIME_UNKNOWN.
            Unavailable: IMAGE_UNAVAILABLE, NO_BACKEND.
            Conflict: IMAGE_LOCAL.
        """
        await self.require(runtime)
        try:
            digest = await self.engine.pull(runtime, "", deadline=PULL_SECONDS)
        except BackendFailure as failed:
            raise Unavailable(
                failed.public,
                reason="IMAGE_UNAVAILABLE",
                metadata={"why": failed.reason},
                body={"why": failed.reason},
            ) from failed
        if not digest:
            raise Conflict("no registry knows the image by a digest", reason="IMAGE_LOCAL")
        return await self.pin(runtime, digest)

    async def roll_back(self, runtime: str, from_digest: str) -> Image:
        """Pin a runtime to what it was pinned to before.

        Raises:
            NotFound: IMAGE_NOT_PINNED.
            Conflict: NO_EARLIER_IMAGE.
        """
        if await store.roll_back(self._pool, runtime, from_digest) is None:
            found = await store.one_pin(self._pool, runtime)
            if found is None:
                raise _not_pinned()
            if from_digest in ("", found.digests[0]):
                raise Conflict("it was pinned to no other image", reason="NO_EARLIER_IMAGE")
        return await self._one(runtime)

    @property
    def has_engine(self) -> bool:
        """Whether any backend has images."""
        return self._engine is not None

    @property
    def engine(self) -> ImageEngine:
        """The engine that has images.

        Raises:
            Unavailable: NO_BACKEND.
        """
        if self._engine is None:
            raise Unavailable("no backend here has images", reason="NO_BACKEND")
        return self._engine

    async def _one(self, runtime: str) -> Image:
        pin = await store.one_pin(self._pool, runtime)
        counts = await store.counts(self._pool, [runtime])
        return self._image(runtime, pin, counts.get(runtime, _NOBODY))

    def _image(self, runtime: str, pin: Pin | None, counts: Counts) -> Image:
        if self._engine is None:
            return Image(runtime, "", moving=False, pin=pin, counts=counts)
        reference = self._engine.reference_of(runtime)
        return Image(runtime, reference, self._engine.moves(reference), pin, counts)


def _not_pinned() -> NotFound:
    return NotFound("the image is not pinned", reason="IMAGE_NOT_PINNED")
