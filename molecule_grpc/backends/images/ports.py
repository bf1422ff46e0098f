"""What the room needs: an engine with images, and restarts of workspaces."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol
from uuid import UUID

from molecule_grpc.backends.contract.names import BackendName
from molecule_grpc.db.pool import Connection
from molecule_grpc.directory import Managed


class ImageEngine(Protocol):
    """An engine that has images, and has registries send it others.

    Raises, in every method that waits: `BackendFailure`.
    """

    @property
    def backend(self) -> BackendName:
        """Whose workspaces run them."""
        ...

    @property
    def runtimes(self) -> tuple[str, ...]:
        """Those whose image is named in the configuration."""
        ...

    def reference_of(self, runtime: str) -> str:
        """The name of a runtime's image, without a pin."""
        ...

    def moves(self, reference: str) -> bool:
        """Whether the name may mean another image tomorrow."""
        ...

    async def pull(self, runtime: str, digest: str, *, deadline: float) -> str:
        """Pull a runtime's image, or the image of a digest. Returns the pulled image's digest.

        Returns an empty text for an image that no registry knows.
        """
        ...

    async def registry_digest(self, runtime: str, *, deadline: float) -> str:
        """The digest of what the name of a runtime's image means in its registry now."""
        ...


class Restarts(Protocol):
    """Rows of workspaces, as restarts move them."""

    async def hold_all(self, conn: Connection, workspace_ids: Collection[UUID]) -> list[Managed]:
        """Lock those of these workspaces that are live."""
        ...

    async def auto_restart(
        self, conn: Connection, workspace_ids: Collection[UUID]
    ) -> list[Managed]:
        """Restarts that nobody has asked for: not below a paused ancestor. Returns whom."""
        ...

    @property
    def announce(self) -> Callable[[], None]:
        """Wakes the readers of the feed of events, after a commit."""
        ...
