"""Workspaces as pods of a Kubernetes cluster, each in a StatefulSet with claims."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final
from uuid import UUID

from molecule_grpc.backends.contract.backend import LOG_SECONDS
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
    Running,
    Started,
    StartRequest,
    Status,
    Unknown,
)
from molecule_grpc.backends.kubernetes import files, names
from molecule_grpc.backends.kubernetes.cluster import Cluster
from molecule_grpc.backends.kubernetes.execs import start_exec
from molecule_grpc.backends.kubernetes.failures import ApiError, calling
from molecule_grpc.backends.kubernetes.logs import last_output, read_logs
from molecule_grpc.backends.kubernetes.manifests import network_policy, secret, stateful_set
from molecule_grpc.backends.kubernetes.names import Json
from molecule_grpc.backends.kubernetes.pods import Pods
from molecule_grpc.backends.kubernetes.states import failure_of, status_of, waits_for
from molecule_grpc.backends.kubernetes.stats import usage_of
from molecule_grpc.backends.kubernetes.workloads import Workloads, id_of, is_meant
from molecule_grpc.backends.pacing import paced
from molecule_grpc.backends.references import pinned
from molecule_grpc.settings.kubernetes import KubernetesSettings

# Kept of a start's deadline for asking why the pod has not come.
_ASKING_SECONDS: Final = 2.0


class KubernetesBackend:
    """The StatefulSets, Secrets and NetworkPolicies of one namespace with one installation's id.

    A workspace that does not run is a StatefulSet without a pod: the claims stay with it, and end
    with it.

    Args:
        platform_url: where pods reach this platform.
    """

    name = BackendName.KUBERNETES
    capabilities = frozenset(Capability) - {Capability.CONSOLE}

    def __init__(
        self, settings: KubernetesSettings, installation: str, *, platform_url: str
    ) -> None:
        self._settings = settings
        self._installation = installation
        self._platform_url = platform_url
        self._cluster = Cluster(settings)
        self._pods = Pods(self._cluster, installation)
        self._workloads = Workloads(self._cluster, self._pods, installation)

    async def start(self, request: StartRequest, *, deadline: float) -> Started:
        """Start a pod in the place of any other of the workspace, and wait until the agent runs."""
        request = dataclasses.replace(
            request, platform_url=request.platform_url or self._platform_url
        )
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline
        async with calling(deadline):
            await self._define(request)
            left = end - loop.time() - _ASKING_SECONDS
            return await self._wait(request, max(left, 0.0))

    async def stop(self, resource: Resource, *, deadline: float) -> None:
        """End the pod. Its claims stay."""
        async with calling(deadline):
            await self._workloads.rest(resource)

    async def status(self, resource: Resource, *, deadline: float) -> Status:
        """What has become of the pod."""
        try:
            async with calling(deadline):
                return await self._status(resource)
        except BackendFailure as failure:
            return Unknown(str(failure))

    async def remove_volumes(self, workspace_id: UUID, *, deadline: float) -> None:
        """Delete the StatefulSet with its claims."""
        async with calling(deadline):
            await self._workloads.remove(workspace_id)

    async def list_owned(self, *, deadline: float) -> list[Owned]:
        """All StatefulSets, and claims without one."""
        async with calling(deadline):
            return await self._workloads.owned()

    async def logs(
        self,
        resource: Resource,
        *,
        since: int = 0,
        follow: bool = False,
        tail: int = 0,
        deadline: float = LOG_SECONDS,
    ) -> AsyncIterator[LogChunk]:
        """The agent's output, until the pod is deleted."""
        async with calling(deadline):
            pod = await self._require(resource)
        yield LogChunk(since, b"")
        chunks = read_logs(self._cluster, pod, since=since, follow=follow, tail=tail)
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
        async with calling(deadline), self._running(resource) as pod:
            return await start_exec(self._cluster, pod, argv, terminal=terminal)

    async def read_file(
        self, resource: Resource, path: str, *, deadline: float
    ) -> AsyncIterator[bytes]:
        """A file's bytes. Only of a workspace that runs."""
        async for chunk in paced(self._read(resource, path), deadline, deadline, calling):
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
        async with calling(deadline), self._running(resource) as pod:
            await files.write(self._cluster, pod, path, content, size)

    async def list_files(
        self, resource: Resource, path: str, *, limit: int, depth: int = 5, deadline: float
    ) -> list[FileEntry]:
        """Files and directories below a directory."""
        async with calling(deadline), self._running(resource) as pod:
            return await files.entries(self._cluster, pod, path, limit, depth)

    async def delete_file(self, resource: Resource, path: str, *, deadline: float) -> None:
        """Delete a file."""
        async with calling(deadline), self._running(resource) as pod:
            await files.delete(self._cluster, pod, path)

    async def stats(self, resource: Resource, *, deadline: float) -> Usage:
        """What the pod uses. Takes half a second, in which it is measured."""
        async with calling(deadline), self._running(resource) as pod:
            return await usage_of(self._cluster, pod)

    async def console(self, resource: Resource, *, deadline: float) -> str:
        """There is no machine under a pod."""
        del resource, deadline
        raise Refused(BackendName.KUBERNETES, "the machine's console")

    async def close(self) -> None:
        """Close connections."""
        await self._pods.close()
        await self._cluster.close()

    async def _define(self, request: StartRequest) -> None:
        """Everything that the pod needs comes before the pod, and is found by its owner's id."""
        image = self._image(request)
        found = await self._workloads.find(request.workspace_id)
        if found is not None and is_meant(found, request.resource) and found["spec"]["replicas"]:
            return
        if found is not None:
            await self._workloads.rest(Resource(workspace_id=request.workspace_id))
            found = await self._workloads.find(request.workspace_id)
        if request.reset_session:
            claim = names.claim(request.workspace_id, names.SESSIONS)
            await self._workloads.remove_claim(claim)
        body = stateful_set(request, self._settings, self._installation, image=image, replicas=0)
        claims = None
        if found is not None and _claim_names(found) == _claim_names(body):
            claims = [_claim_template(each) for each in found["spec"]["volumeClaimTemplates"]]
            body["spec"]["volumeClaimTemplates"] = claims
        elif found is not None:
            # What a StatefulSet claims can never be changed; the claims themselves are kept.
            await self._workloads.forget_set(found)
        owner = await self._workloads.apply_set(body)
        await self._workloads.apply_policy(request.workspace_id, self._policy(request, owner))
        await self._workloads.apply_secret(secret(request, self._installation, owner))
        whole = {**body, "spec": {**body["spec"], "replicas": 1}}
        # Stopped or started by somebody else meanwhile, this start has lost.
        await self._workloads.change_set(whole, owner)

    def _image(self, request: StartRequest) -> str:
        if request.image:
            return request.image
        images = dict(self._settings.images)
        image = images.get(request.runtime) or images.get("*")
        if not image:
            raise BackendFailure(
                FailureReason.CONFIGURATION,
                f"no image is configured for the runtime {request.runtime}",
                undone=True,
            )
        return pinned(image, request.image_digest) if request.image_digest else image

    def _policy(self, request: StartRequest, owner: Json) -> Json | None:
        if request.egress is None:
            return None
        if not self._settings.network_policies:
            raise BackendFailure(
                FailureReason.EGRESS_UNENFORCED,
                "the cluster is not said to enforce NetworkPolicies",
            )
        return network_policy(request, self._settings, self._installation, owner)

    async def _wait(self, request: StartRequest, seconds: float) -> Started:
        resource_id = names.resource_id(request.workspace_id, request.operation_id)
        pod: Json | None = None
        changes = self._pods.changes(names.pod(request.workspace_id))
        limit = asyncio.timeout(seconds)
        try:
            async with limit, contextlib.aclosing(changes) as each:
                async for pod in each:
                    if pod is None or _operation(pod) != request.operation_id:
                        continue
                    status = status_of(pod, resource_id)
                    if isinstance(status, Running) and status.url:
                        return Started(resource_id, status.url, status.image_digest)
                    if (failure := failure_of(pod)) is not None:
                        failure.output = await last_output(self._cluster, pod)
                        raise failure
        except TimeoutError:
            if not limit.expired():
                raise
        raise waits_for(pod, await self._workloads.last_warning(request.workspace_id))

    async def _status(self, resource: Resource) -> Status:
        found = await self._workloads.find(resource.workspace_id)
        if found is None or not is_meant(found, resource):
            return Absent()
        pod = await self._workloads.pod(resource.workspace_id)
        if pod is not None and _operation(pod) == names.label_id(found, names.OPERATION):
            return status_of(pod, id_of(found))
        if not found["spec"]["replicas"]:
            return Absent() if pod is None else Unknown("an older pod ends")
        return Unknown("the cluster is making the pod")

    async def _read(self, resource: Resource, path: str) -> AsyncGenerator[bytes, None]:
        async with self._running(resource) as pod:
            async for chunk in files.read(self._cluster, pod, path):
                yield chunk

    async def _require(self, resource: Resource) -> Json:
        found = await self._workloads.find(resource.workspace_id)
        pod = await self._workloads.pod(resource.workspace_id)
        if found is None or pod is None or not is_meant(found, resource):
            raise WorkloadMissing(str(resource.workspace_id))
        return pod

    @contextlib.asynccontextmanager
    async def _running(self, resource: Resource) -> AsyncIterator[str]:
        """The name of the pod, in which commands can be run."""
        pod = await self._require(resource)
        if not isinstance(status_of(pod, ""), Running):
            raise WorkloadMissing(str(resource.workspace_id))
        try:
            yield str(pod["metadata"]["name"])
        except ApiError as error:
            if error.is_missing:
                raise WorkloadMissing(str(resource.workspace_id)) from error
            raise


def _operation(pod: Json) -> UUID | None:
    return names.label_id(pod, names.OPERATION)


def _claim_names(found: Json) -> set[str]:
    templates: list[Json] = found["spec"].get("volumeClaimTemplates") or []
    return {str(each["metadata"]["name"]) for each in templates}


def _claim_template(found: Json) -> Json:
    """A template as it was asked for, without what the cluster has added."""
    metadata = found["metadata"]
    kept = {"name": metadata["name"], "labels": metadata.get("labels") or {}}
    return {"metadata": kept, "spec": found["spec"]}
