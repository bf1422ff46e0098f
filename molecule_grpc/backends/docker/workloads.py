"""Containers and volumes of workspaces on the engine: finding, making and removing them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from aiodocker.exceptions import DockerError

from molecule_grpc.backends.contract.workloads import Owned, Resource, Running, Status, Stopped
from molecule_grpc.backends.docker import names
from molecule_grpc.backends.docker.container_spec import AGENT_PORT, HOST_NETWORK
from molecule_grpc.backends.docker.engine import Engine
from molecule_grpc.backends.docker.failures import is_conflict, is_missing
from molecule_grpc.backends.docker.names import Json
from molecule_grpc.backends.docker.rules import signal_of

_REMOVAL_POLL_SECONDS: Final = 0.05
# No use of a helper takes as long.
_HELPER_SECONDS: Final = 600
_AGENT_PORT_NUMBER: Final = AGENT_PORT.partition("/")[0]


class Workloads:
    """What bears this installation's id. Nothing else is seen, let alone touched."""

    def __init__(self, engine: Engine, installation: str) -> None:
        self._engine = engine
        self._installation = installation

    async def find(self, resource: Resource) -> list[Json]:
        """The containers that are meant, newest first, in the engine's short form."""
        filters = names.label_filter(self._installation, workspace=resource.workspace_id)
        found = await self._engine.get("containers/json", all=True, filters=filters)
        return [one for one in found if _is_meant(one, resource)]

    async def inspect(self, resource: Resource) -> Json | None:
        """The engine's record of the newest container; None for a workspace without containers."""
        for found in await self.find(resource):
            if (inspected := await self.inspect_id(found["Id"])) is not None:
                return inspected
        return None

    async def inspect_id(self, container_id: str) -> Json | None:
        """All that the engine knows of a container."""
        try:
            inspected: Json = await self._engine.get(f"containers/{container_id}/json")
        except DockerError as error:
            if is_missing(error):
                return None
            raise
        return inspected

    async def remove(self, containers: Iterable[Json]) -> None:
        """End and remove containers, and wait until they are gone."""
        for one in containers:
            await self._remove(one["Id"])

    async def _remove(self, container_id: str) -> None:
        while True:
            try:
                await self._engine.delete(f"containers/{container_id}", force=True, v=True)
            except DockerError as error:
                # Somebody else removes it: gone means gone, so wait.
                if not is_conflict(error):
                    raise
                await asyncio.sleep(_REMOVAL_POLL_SECONDS)
            else:
                return

    async def create(self, workspace_id: UUID, body: Json) -> str:
        """Create a container. Returns its id."""
        name = names.container(workspace_id)
        made: Json = await self._engine.post("containers/create", body, name=name)
        return str(made["Id"])

    async def require_volume(self, name: str, labels: dict[str, str]) -> None:
        """Make a volume, if there is none."""
        made = await self._engine.post("volumes/create", {"Name": name, "Labels": labels})
        if (made.get("Labels") or {}).get(names.INSTALLATION) != self._installation:
            raise DockerError(409, f"the volume {name} is somebody else's")

    async def remove_volume(self, name: str) -> None:
        """Delete a volume of this installation. None there is a success."""
        try:
            found = await self._engine.get(f"volumes/{name}")
        except DockerError as error:
            if is_missing(error):
                return
            raise
        if (found.get("Labels") or {}).get(names.INSTALLATION) == self._installation:
            await self._engine.delete(f"volumes/{name}", force=True)

    async def volumes(self, workspace_id: UUID | None = None) -> list[Json]:
        """Volumes of a workspace, or of all."""
        wanted = {} if workspace_id is None else {"workspace": workspace_id}
        filters = names.label_filter(self._installation, **wanted)
        return list((await self._engine.get("volumes", filters=filters)).get("Volumes") or [])

    async def owned(self) -> list[Owned]:
        """Every container, and every workspace that has volumes and no container."""
        filters = names.label_filter(self._installation)
        found = await self._engine.get("containers/json", all=True, filters=filters)
        owned = [each for each in map(_owned_container, found) if each is not None]
        with_container = {each.workspace_id for each in owned}
        for volume in await self.volumes():
            each = _owned_volume(volume)
            if each is not None and each.workspace_id not in with_container:
                with_container.add(each.workspace_id)
                owned.append(each)
        return owned


def status_of(inspected: Json) -> Status:
    """What a container's record says. One that the engine restarts again and again has stopped."""
    state, labels = inspected["State"], inspected["Config"].get("Labels")
    operation = names.label_id(labels, names.OPERATION)
    if state.get("Running") and not state.get("Restarting"):
        return Running(inspected["Id"], operation, url_of(inspected), digest_in(inspected))
    if state.get("Status") == "created":
        return Stopped(inspected["Id"], operation)
    code = int(state.get("ExitCode", 0))
    killed = bool(state.get("OOMKilled"))
    return Stopped(inspected["Id"], operation, code, killed, signal_of(code))


def digest_in(inspected: Json) -> str:
    """Of the image that a container was made from; empty for one of an earlier version."""
    return str((inspected["Config"].get("Labels") or {}).get(names.DIGEST, ""))


def url_of(inspected: Json) -> str:
    """Where the platform calls the agent: at a published port, else at the container's address."""
    if inspected["HostConfig"]["NetworkMode"] == HOST_NETWORK:
        return f"http://127.0.0.1:{_AGENT_PORT_NUMBER}"
    settings = inspected["NetworkSettings"]
    for binding in (settings.get("Ports") or {}).get(AGENT_PORT) or []:
        if binding.get("HostPort"):
            return f"http://{binding['HostIp']}:{binding['HostPort']}"
    for network in (settings.get("Networks") or {}).values():
        if network.get("IPAddress"):
            return f"http://{network['IPAddress']}:{_AGENT_PORT_NUMBER}"
    return ""


def _is_meant(found: Json, resource: Resource) -> bool:
    labels = found.get("Labels") or {}
    if names.HELPER in labels:
        return bool(resource.resource_id == found["Id"])
    if resource.resource_id and found["Id"] != resource.resource_id:
        return False
    if resource.operation_id is None:
        return True
    return names.label_id(labels, names.OPERATION) == resource.operation_id


def _owned_container(found: Json) -> Owned | None:
    labels = found.get("Labels")
    workspace = names.label_id(labels, names.WORKSPACE)
    if workspace is None or _is_in_use(found):
        return None
    return Owned(
        workspace,
        found["Id"],
        names.label_id(labels, names.ORGANIZATION),
        names.label_id(labels, names.OPERATION),
        found["State"] in ("running", "paused"),
        datetime.fromtimestamp(found["Created"], UTC),
    )


def _is_in_use(found: Json) -> bool:
    """Whether a container is somebody's helper: what is older was left by a worker that died."""
    return names.HELPER in (found.get("Labels") or {}) and (
        time.time() - found["Created"] < _HELPER_SECONDS
    )


def _owned_volume(found: Json) -> Owned | None:
    labels = found.get("Labels")
    workspace = names.label_id(labels, names.WORKSPACE)
    if workspace is None:
        return None
    organization = names.label_id(labels, names.ORGANIZATION)
    return Owned(workspace, "", organization, None, False, names.moment(found["CreatedAt"]))
