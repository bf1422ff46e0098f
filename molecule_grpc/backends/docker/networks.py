"""The networks of an installation: an open one for all, and an internal one for each organisation.

Containers of one network cannot reach each other: agents talk through the platform.

A container on an internal network has an address of its own choice, from the lower half of the
network's addresses, and keeps the address when the engine starts it again: nobody else is called at
the address that the platform knows. The engine gives addresses of the upper half alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import secrets
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, NamedTuple
from uuid import UUID

from aiodocker.exceptions import DockerError

from molecule_grpc.backends.docker import names
from molecule_grpc.backends.docker.engine import Engine
from molecule_grpc.backends.docker.failures import is_conflict, is_missing
from molecule_grpc.backends.docker.names import Json

# Of making a network whose range somebody else has taken in the meantime.
_TRIES: Final = 5
_BETWEEN_CONTAINERS: Final = "com.docker.network.bridge.enable_icc"


class Network(NamedTuple):
    """A network of this installation.

    Args:
        gateway: the machine's address on it.
        internal: whether its packets go nowhere else.
        subnet: its addresses.
        organization_id: whose containers are on it; None for everybody's.
    """

    name: str
    gateway: str
    internal: bool
    subnet: str = ""
    organization_id: UUID | None = None


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

    async def free_address(self, network: Network, workspace_id: UUID) -> str:
        """An address for a workspace on an internal network, which no container there has."""
        filters = names.label_filter(self._installation)
        found = await self._engine.get("containers/json", all=True, filters=filters)
        taken = {network.gateway}
        for each in found:
            joined = (each.get("NetworkSettings") or {}).get("Networks") or {}
            config = (joined.get(network.name) or {}).get("IPAMConfig") or {}
            taken.add(config.get("IPv4Address", ""))
        lower = next(_halves(network.subnet))
        count = lower.num_addresses - 1  # Without the first, which is the network's.
        # Two starts at once begin at different places, and rarely choose the same.
        for offset in range(count):
            address = str(lower[1 + (workspace_id.int + offset) % count])
            if address not in taken:
                return address
        raise DockerError(409, f"no address is free on the network {network.name}")

    async def all(self) -> list[Network]:
        """Every network of this installation."""
        filters = names.label_filter(self._installation)
        return [_network(found) for found in await self._engine.get("networks", filters=filters)]

    async def announce(self) -> None:
        """Tell the gate of all networks: after a start, or when somebody has removed a network."""
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
                if internal:
                    await self._create_internal(name, labels)
                else:
                    await self._create(name, labels)
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

    async def _create_internal(self, name: str, labels: dict[str, str]) -> None:
        """Addresses can be chosen only on networks whose range was chosen.

        So the engine is asked for a free range by a network that is removed at once.
        """
        for tries_left in reversed(range(_TRIES)):
            draft = f"{name}-{secrets.token_hex(4)}"
            await self._create(draft, labels, internal=True)
            made = await self._find(draft)
            await self._engine.delete(f"networks/{draft}")
            if made is None:
                continue
            upper = list(_halves(made.subnet))[1]
            pool = {"Subnet": made.subnet, "Gateway": made.gateway, "IPRange": str(upper)}
            try:
                await self._create(name, labels, internal=True, pools=[pool])
            except DockerError:
                # Somebody else took the range in between; or the same network, made by another
                # worker, has it.
                with contextlib.suppress(DockerError):
                    if await self._find(name) is not None:
                        return
                if not tries_left:
                    raise
            else:
                return

    async def _create(
        self,
        name: str,
        labels: dict[str, str],
        *,
        internal: bool = False,
        pools: list[Json] | None = None,
    ) -> None:
        body: Json = {
            "Name": name,
            "CheckDuplicate": True,
            "Internal": internal,
            "Labels": labels,
            "Options": {_BETWEEN_CONTAINERS: "false"},
        }
        if pools is not None:
            body["IPAM"] = {"Config": pools}
        try:
            await self._engine.post("networks/create", body)
        except DockerError as error:
            if not is_conflict(error):  # Another worker was faster.
                raise


def _halves(subnet: str) -> Iterator[ipaddress.IPv4Network]:
    """The lower and the upper half of a network's addresses."""
    return ipaddress.IPv4Network(subnet).subnets()


def _network(found: Json) -> Network:
    pools = (found.get("IPAM") or {}).get("Config") or [{}]
    return Network(
        found["Name"],
        pools[0].get("Gateway", ""),
        bool(found.get("Internal")),
        pools[0].get("Subnet", ""),
        names.label_id(found.get("Labels"), names.ORGANIZATION),
    )
