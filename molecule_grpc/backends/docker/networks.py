"""The networks of an installation: an open one for all, and an internal one for each organisation.

Containers of one network cannot reach each other: agents talk through the platform.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple
from uuid import UUID

from aiodocker.exceptions import DockerError

from molecule_grpc.backends.docker import names
from molecule_grpc.backends.docker.engine import Engine
from molecule_grpc.backends.docker.failures import is_conflict, is_missing
from molecule_grpc.backends.docker.names import Json

_BETWEEN_CONTAINERS: Final = "com.docker.network.bridge.enable_icc"


class Network(NamedTuple):
    """A network of this installation.

    Args:
        gateway: the machine's address on it.
        internal: whether its packets go nowhere else.
    """

    name: str
    gateway: str
    internal: bool


class Networks:
    """Makes networks when the first container needs them, and removes them after the last.

    Args:
        installation: id of the installation, borne by all networks.
        name: of the open network; the internal ones add the organisation's id.
        changed: told of all networks whenever one was made or removed, before a container uses it.
    """

    def __init__(
        self,
        engine: Engine,
        installation: str,
        name: str,
        changed: Callable[[list[Network]], Awaitable[None]],
    ) -> None:
        self._engine = engine
        self._installation = installation
        self._name = name or f"molecule-{installation}"
        self._changed = changed
        self._lock = asyncio.Lock()

    async def open(self) -> Network:
        """The network from which everything may be reached."""
        return await self._ensure(self._name, names.labels(self._installation), internal=False)

    async def internal(self, organization_id: UUID) -> Network:
        """The network of an organisation that leads to the platform and its proxy alone."""
        name = f"{self._name}-{organization_id}"
        labels = names.labels(self._installation, organization_id=organization_id)
        return await self._ensure(name, labels, internal=True)

    async def all(self) -> list[Network]:
        """Every network of this installation."""
        filters = names.label_filter(self._installation)
        return [_network(found) for found in await self._engine.get("networks", filters=filters)]

    async def announce(self) -> None:
        """Tell of the networks that are there: after a start, and in case somebody removed one."""
        await self._changed(await self.all())

    async def remove_unused(self) -> None:
        """Remove the networks that no container has."""
        async with self._lock:
            removed = False
            for network in await self.all():
                try:
                    removed |= await self._engine.delete(f"networks/{network.name}")
                except DockerError as error:
                    # The engine refuses with 403 while a container, also one just made, is on it.
                    if error.status not in (403, 409):
                        raise
            if removed:
                await self._changed(await self.all())

    async def _ensure(self, name: str, labels: dict[str, str], *, internal: bool) -> Network:
        async with self._lock:
            found = await self._find(name)
            if found is None:
                await self._create(name, labels, internal=internal)
                found = await self._find(name)
                await self._changed(await self.all())
        if found is None:
            raise DockerError(404, f"network {name} vanished")
        return found

    async def _find(self, name: str) -> Network | None:
        try:
            found = await self._engine.get(f"networks/{name}")
        except DockerError as error:
            if is_missing(error):
                return None
            raise
        if found["Labels"].get(names.INSTALLATION) != self._installation:
            raise DockerError(409, f"the network {name} is somebody else's")
        return _network(found)

    async def _create(self, name: str, labels: dict[str, str], *, internal: bool) -> None:
        body: Json = {
            "Name": name,
            "CheckDuplicate": True,
            "Internal": internal,
            "Labels": labels,
            "Options": {_BETWEEN_CONTAINERS: "false"},
        }
        try:
            await self._engine.post("networks/create", body)
        except DockerError as error:
            if not is_conflict(error):  # Another worker was faster.
                raise


def _network(found: Json) -> Network:
    pools = (found.get("IPAM") or {}).get("Config") or [{}]
    return Network(found["Name"], pools[0].get("Gateway", ""), bool(found.get("Internal")))
