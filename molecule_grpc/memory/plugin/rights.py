"""What operators may do with memories that a plugin keeps: grants and quarantine are as ever."""

from __future__ import annotations

from typing import NoReturn
from uuid import UUID

from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.directory import DEFAULT_ORGANIZATION
from molecule_grpc.kernel.errors import NotFound
from molecule_grpc.kernel.ids import as_id
from molecule_grpc.memory.contract.errors import ErrorCode, StoreError
from molecule_grpc.memory.drafting import namespace as checked
from molecule_grpc.memory.grants import Grants
from molecule_grpc.memory.plugin import refusals
from molecule_grpc.memory.plugin.client import PluginClient
from molecule_grpc.memory.plugin.wire_names import WireNames
from molecule_grpc.memory.store.places import has_anchor
from molecule_grpc.memory.values import NamespaceKind


class PluginRights(Grants):
    """Grants and quarantine, and of the rest what the contract has something for.

    Args:
        key: of the installation.
    """

    def __init__(self, pool: Pool, client: PluginClient, key: bytes) -> None:
        super().__init__(pool, DEFAULT_ORGANIZATION, tell_sweeper=lambda: None)
        self._client = client
        self._key = key

    async def move(self, organization_id: UUID | None, source: str, target: str) -> NoReturn:  # noqa: ARG002
        """Raises `Unsupported` MEMORY_PLUGIN_UNSUPPORTED."""
        raise refusals.unsupported("moving a namespace")

    async def stats(self, organization_id: UUID | None) -> NoReturn:  # noqa: ARG002
        """Raises `Unsupported` MEMORY_PLUGIN_UNSUPPORTED."""
        raise refusals.unsupported("counting memories")

    async def delete_namespace(self, organization_id: UUID | None, name: str) -> int:
        """Delete a namespace from the plugin, which does not tell how many memories went: 0.

        Args:
            organization_id: None for the default one.

        Raises:
            Invalid: the name is none of a namespace.
            NotFound: NAMESPACE_NOT_FOUND.
            Unavailable: MEMORY_PLUGIN_UNAVAILABLE.
        """
        home = organization_id or DEFAULT_ORGANIZATION
        await self._require_own(home, checked(name))
        names = WireNames(self._key, home)
        try:
            await self._client.delete_namespace(names.namespace(name))
        except StoreError as error:
            if error.code is ErrorCode.NOT_FOUND:
                raise _missing() from error
            raise refusals.named(error, "delete") from error
        return 0

    async def _require_own(self, organization_id: UUID, name: str) -> None:
        """Raise `NotFound` for what hangs on a workspace of another organisation.

        The plugin does not know whose a workspace is, and would delete it.
        """
        kind, _, anchor = name.partition(":")
        if kind == NamespaceKind.CUSTOM:
            return
        if (found := as_id(anchor)) is None:
            raise _missing()
        with database_errors():
            async with self._pool.acquire() as conn:
                known = await has_anchor(conn, organization_id, found)
        if not known:
            raise _missing()


def _missing() -> NotFound:
    return NotFound("namespace not found", reason="NAMESPACE_NOT_FOUND")
