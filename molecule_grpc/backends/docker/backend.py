"""Workspaces in containers of one Docker engine."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final
from uuid import UUID

import structlog
from aiodocker.exceptions import DockerError

from molecule_grpc.backends.contract.backend import LIST_SECONDS, LOG_SECONDS
from molecule_grpc.backends.contract.entering import (
    ExecSession,
    FileEntry,
    LogChunk,
    TerminalSize,
    Usage,
)
from molecule_grpc.backends.contract.failures import (
    BackendFailure,
    FailureReason,
    Refused,
    WorkloadMissing,
)
from molecule_grpc.backends.contract.names import BackendName, Capability
from molecule_grpc.backends.contract.workloads import (
    Absent,
    Owned,
    Resource,
    Started,
    StartRequest,
    Status,
    Unknown,
)
from molecule_grpc.backends.docker import names
from molecule_grpc.backends.docker.archive import small_archive
from molecule_grpc.backends.docker.container_spec import (
    SECRETS_DIRECTORY,
    Attachment,
    purposes,
    specification,
)
from molecule_grpc.backends.docker.enforcement import Enforcement
from molecule_grpc.backends.docker.engine import Engine
from molecule_grpc.backends.docker.execs import start_exec
from molecule_grpc.backends.docker.failures import calling, ended, is_conflict, is_missing
from molecule_grpc.backends.docker.files import Files
from molecule_grpc.backends.docker.gate import Gate, NoGate
from molecule_grpc.backends.docker.images import Images, digest_of
from molecule_grpc.backends.docker.logs import last_output, read_logs
from molecule_grpc.backends.docker.names import Json
from molecule_grpc.backends.docker.networks import Networks
from molecule_grpc.backends.docker.ports import free_port
from molecule_grpc.backends.docker.stats import usage_of
from molecule_grpc.backends.docker.workloads import Workloads, digest_in, status_of, url_of
from molecule_grpc.backends.pacing import paced
from molecule_grpc.settings.docker import DockerSettings

log = structlog.get_logger(__name__)

_SECRET_MODE: Final = 0o444
# A start whose network or address somebody else takes at the same time begins anew so often.
_ATTEMPTS: Final = 3


class DockerBackend:
    """The Docker engine's containers, volumes and networks with one installation's id.

    Args:
        platform_port: where the platform listens on the gateways of the networks.
    """

    name = BackendName.DOCKER
    capabilities = frozenset(Capability) - {Capability.CONSOLE}

    def __init__(
        self,
        settings: DockerSettings,
        installation: str,
        *,
        platform_port: int,
        gate: Gate | None = None,
    ) -> None:
        self._settings = settings
        self._installation = installation
        self._platform_port = platform_port
        self._gate = gate or NoGate()
        self._engine = Engine(settings.host)
        self._images = Images(self._engine, settings)
        self._workloads = Workloads(self._engine, installation)
        self._networks = Networks(
            self._engine, installation, settings.network_name, self._gate.networks_changed
        )
        self._enforcement = Enforcement(self._engine, self._networks, settings, installation)
        self._files = Files(self._engine, self._workloads, installation)

    async def start(self, request: StartRequest, *, deadline: float) -> Started:
        """Start a container in the place of any other of the workspace."""
        async with calling(deadline):
            for attempt in range(_ATTEMPTS):
                try:
                    return await self._start(request, attempt)
                except DockerError as error:
                    if attempt == _ATTEMPTS - 1 or not _passes(error):
                        raise
        raise AssertionError("unreachable")

    async def stop(self, resource: Resource, *, deadline: float) -> None:
        """Remove the container. Its volumes stay."""
        async with calling(deadline):
            await self._workloads.remove(await self._workloads.find(resource))

    async def status(self, resource: Resource, *, deadline: float) -> Status:
        """What has become of the container."""
        try:
            async with calling(deadline):
                found = await self._workloads.inspect(resource)
        except BackendFailure as failure:
            return Unknown(str(failure))
        return Absent() if found is None else status_of(found)

    async def remove_volumes(self, workspace_id: UUID, *, deadline: float) -> None:
        """Delete every volume of the workspace, and networks that nobody needs any more."""
        async with calling(deadline):
            for found in await self._workloads.volumes(workspace_id):
                await self._workloads.remove_volume(found["Name"])
            await self._networks.remove_unused()

    async def list_owned(self, *, deadline: float) -> list[Owned]:
        """All containers, and volumes without one."""
        async with calling(deadline):
            return await self._workloads.owned()

    @property
    def images(self) -> Images:
        """The engine's images, and the registries that it pulls from."""
        return self._images

    async def announce_networks(self) -> None:
        """Have the gate listen on the networks that are there."""
        async with calling(LIST_SECONDS):
            await self._networks.announce()

    async def logs(
        self,
        resource: Resource,
        *,
        since: int = 0,
        follow: bool = False,
        tail: int = 0,
        deadline: float = LOG_SECONDS,
    ) -> AsyncGenerator[LogChunk, None]:
        """What the agent printed. Positions are times of lines, which the engine's log keeps."""
        async with calling(deadline):
            found = await self._require(resource)
        chunks = read_logs(self._engine, found["Id"], since=since, follow=follow, tail=tail)
        async for chunk in paced(chunks, deadline, None if follow else deadline, calling):
            yield chunk

    async def exec(
        self,
        resource: Resource,
        argv: list[str],
        *,
        terminal: TerminalSize | None = None,
        deadline: float,
    ) -> ExecSession:
        """Run a command beside the agent."""
        async with calling(deadline):
            found = await self._require(resource)
            try:
                return await start_exec(self._engine, found["Id"], argv, terminal=terminal)
            except DockerError as error:
                if is_missing(error) or is_conflict(error):
                    raise WorkloadMissing(str(resource.workspace_id)) from error
                raise

    async def read_file(
        self, resource: Resource, path: str, *, deadline: float
    ) -> AsyncGenerator[bytes, None]:
        """A file's bytes, also of a workspace that has ended."""
        pieces = self._files.read(resource, path)
        async for chunk in paced(pieces, deadline, deadline, calling):
            yield chunk

    async def write_file(
        self,
        resource: Resource,
        path: str,
        content: AsyncIterator[bytes],
        size: int,
        *,
        deadline: float,
    ) -> None:
        """Replace a file."""
        async with calling(deadline):
            await self._files.write(resource, path, content, size)

    async def list_files(
        self, resource: Resource, path: str, *, limit: int, depth: int = 5, deadline: float
    ) -> list[FileEntry]:
        """Files and directories below a directory."""
        async with calling(deadline):
            return await self._files.entries(resource, path, limit, depth)

    async def delete_file(self, resource: Resource, path: str, *, deadline: float) -> None:
        """Delete a file."""
        async with calling(deadline):
            await self._files.delete(resource, path)

    async def stats(self, resource: Resource, *, deadline: float) -> Usage:
        """What the container uses. Takes the engine a second, in which it measures."""
        async with calling(deadline):
            found = await self._require(resource)
            return usage_of(await self._engine.get(f"containers/{found['Id']}/stats", stream=False))

    async def console(self, resource: Resource, *, deadline: float) -> str:
        """There is no machine under a container."""
        del resource, deadline
        raise Refused(BackendName.DOCKER, "the machine's console")

    async def close(self) -> None:
        """Close connections."""
        await self._engine.close()

    async def _require(self, resource: Resource) -> Json:
        found = await self._workloads.inspect(resource)
        if found is None:
            raise WorkloadMissing(str(resource.workspace_id))
        return found

    async def _start(self, request: StartRequest, attempt: int) -> Started:
        reference = self._images.reference(request)
        digest = digest_of(await self._images.require(reference), reference)
        if (same := await self._workloads.inspect(request.resource)) and _serves(same):
            return _started(same)
        whole = Resource(workspace_id=request.workspace_id)
        await self._workloads.remove(await self._workloads.find(whole))
        await self._prepare_volumes(request, reference)
        attachment = await self._attach(request, reference, attempt)
        labels = {**self._labels(request), names.DIGEST: digest}
        if attachment.port:
            labels[names.PORT] = str(attachment.port)
        body = specification(
            request,
            reference,
            attachment,
            self._settings,
            labels=labels,
            platform_port=self._platform_port,
        )
        container_id = await self._workloads.create(request.workspace_id, body)
        await self._write_files(container_id, request)
        await self._engine.post(f"containers/{container_id}/start")
        return await self._look(container_id)

    async def _look(self, container_id: str) -> Started:
        found = await self._workloads.inspect_id(container_id)
        if found is None:
            raise BackendFailure(FailureReason.EXITED, "the container was removed while it started")
        if not _serves(found):
            raise ended(found["State"], await last_output(self._engine, container_id))
        return _started(found)

    async def _attach(self, request: StartRequest, image: str, attempt: int) -> Attachment:
        if request.egress is None:
            network = await self._networks.open()
            ports = range(self._settings.ports[0], self._settings.ports[1] + 1)
            port = await free_port(self._engine, request.workspace_id, ports, attempt)
            return Attachment(network.name, network.gateway, internal=False, port=port)
        network = await self._networks.internal(request.organization_id)
        variables = self._gate.admit(request, network)
        await self._enforcement.require(network, image)
        address = await self._networks.free_address(network, request.workspace_id)
        return Attachment(network.name, network.gateway, True, variables, address)

    async def _prepare_volumes(self, request: StartRequest, reference: str) -> None:
        workspace = request.workspace_id
        if request.reset_session:
            await self._workloads.remove_volume(names.volume(workspace, names.SESSIONS))
        # What is a secret no longer must not stay there.
        await self._workloads.remove_volume(names.volume(workspace, names.SECRETS))
        for purpose in purposes(request):
            labels = names.labels(self._installation, workspace, request.organization_id)
            name = names.volume(workspace, purpose)
            await self._workloads.require_volume(name, {**labels, names.IMAGE: reference})

    async def _write_files(self, container_id: str, request: StartRequest) -> None:
        await self._put(container_id, "/configs", small_archive(request.config_files))
        if request.secret_files:
            archive = small_archive(request.secret_files, _SECRET_MODE)
            await self._put(container_id, SECRETS_DIRECTORY, archive)

    async def _put(self, container_id: str, directory: str, archive: bytes) -> None:
        path = f"containers/{container_id}/archive"
        query = {"path": directory}
        async with self._engine.request("PUT", path, params=query, data=archive) as answer:
            await answer.read()

    def _labels(self, request: StartRequest) -> dict[str, str]:
        return names.labels(
            self._installation,
            request.workspace_id,
            request.organization_id,
            request.operation_id,
        )


def _passes(error: DockerError) -> bool:
    """Whether the start meets another state at the next attempt."""
    # Another start chose the same address or port, or a program beside the engine has the port.
    if re.search("address already in use|port is already allocated", error.message, re.IGNORECASE):
        return True
    # A removal at the same time: a network without containers is removed.
    return is_missing(error) and "network" in error.message


def _serves(found: Json) -> bool:
    state = found["State"]
    return bool(state.get("Running")) and not state.get("Restarting")


def _started(found: Json) -> Started:
    return Started(found["Id"], url_of(found), digest_in(found))
