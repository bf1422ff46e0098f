"""Objects of workspaces on the cluster: finding, making, resting and removing them."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime
from typing import Final
from uuid import UUID

from molecule_grpc.backends.contract.workloads import Owned, Resource
from molecule_grpc.backends.kubernetes import names
from molecule_grpc.backends.kubernetes.cluster import Cluster
from molecule_grpc.backends.kubernetes.failures import ApiError
from molecule_grpc.backends.kubernetes.names import Json
from molecule_grpc.backends.kubernetes.pods import Pods
from molecule_grpc.backends.kubernetes.states import url_of

_SETS: Final = "/apis/apps/v1/namespaces/{}/statefulsets"
_POLICIES: Final = "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies"
_SECRETS: Final = "/api/v1/namespaces/{}/secrets"
_PODS: Final = "/api/v1/namespaces/{}/pods"
_CLAIMS: Final = "/api/v1/namespaces/{}/persistentvolumeclaims"
_EVENTS: Final = "/api/v1/namespaces/{}/events"
_GONE_POLL_SECONDS: Final = 0.2
_PAGE: Final = 500


class Workloads:
    """What bears this installation's id. Nothing else is seen, let alone touched."""

    def __init__(self, cluster: Cluster, pods: Pods, installation: str) -> None:
        self._cluster = cluster
        self._pods = pods
        self._installation = installation

    async def find(self, workspace_id: UUID) -> Json | None:
        """The StatefulSet of a workspace.

        Raises:
            ApiError: 409: something of that name is somebody else's.
        """
        found = await self._cluster.find(self._path(_SETS, names.workload(workspace_id)))
        if found is not None and not names.bears(found, self._installation):
            raise ApiError(409, "Conflict", f"{names.workload(workspace_id)} is somebody else's")
        return found

    async def pod(self, workspace_id: UUID) -> Json | None:
        """The pod of a workspace."""
        found = await self._cluster.find(self._path(_PODS, names.pod(workspace_id)))
        return found if found is not None and names.bears(found, self._installation) else None

    async def apply_set(self, body: Json) -> Json:
        """Make the StatefulSet."""
        return await self._cluster.apply(self._path(_SETS, body["metadata"]["name"]), body)

    async def change_set(self, body: Json, seen: Json) -> None:
        """Change the StatefulSet, if nobody else has since it was seen.

        Raises:
            ApiError: 409: somebody has.
        """
        while True:
            now = await self.find(UUID(body["metadata"]["labels"][names.WORKSPACE]))
            if now is None or _definition(now) != _definition(seen):
                raise ApiError(409, "Conflict", "another start or stop came in between")
            # The version also changes with what the cluster notes of the StatefulSet's pods.
            version = now["metadata"]["resourceVersion"]
            metadata = {**body["metadata"], "resourceVersion": version}
            try:
                await self.apply_set({**body, "metadata": metadata})
            except ApiError as error:
                if not error.is_conflict:
                    raise
            else:
                return

    async def apply_secret(self, body: Json) -> None:
        """Make the Secret."""
        await self._cluster.apply(self._path(_SECRETS, body["metadata"]["name"]), body)

    async def apply_policy(self, workspace_id: UUID, body: Json | None) -> None:
        """Apply the NetworkPolicy; with None delete the workspace's NetworkPolicy."""
        path = self._path(_POLICIES, names.workload(workspace_id))
        if body is not None:
            await self._cluster.apply(path, body)
        else:
            await self._cluster.delete(path)

    async def rest(self, resource: Resource) -> None:
        """Have no pod run, and wait until the pod is gone. What the pod was told is deleted."""
        while True:
            found = await self.find(resource.workspace_id)
            if found is None or not is_meant(found, resource):
                return
            try:
                await self._scale_to_none(found)
            except ApiError as error:
                # Somebody has changed the object since: it may be another start's by now.
                if error.is_conflict or error.is_missing:
                    continue
                raise
            break
        path = self._path(_SECRETS, names.workload(resource.workspace_id))
        await self._cluster.delete(path)
        await self.wait_until_gone(resource.workspace_id)

    async def wait_until_gone(self, workspace_id: UUID) -> None:
        """Wait for the end of a pod that ends."""
        changes = self._pods.changes(names.pod(workspace_id))
        async with contextlib.aclosing(changes) as each:
            async for pod in each:
                if pod is None:
                    return

    async def forget_set(self, found: Json) -> None:
        """Delete a StatefulSet without pods, and keep the claims."""
        await self._delete_set(found, "Orphan")

    async def remove(self, workspace_id: UUID) -> None:
        """Delete a workspace's StatefulSet, pod, and claims with their disks."""
        if (found := await self.find(workspace_id)) is not None:
            await self._delete_set(found, "Foreground")
        await self.wait_until_gone(workspace_id)
        while claims := await self._claims(workspace_id):
            for claim in claims:
                if not claim["metadata"].get("deletionTimestamp"):
                    await self.remove_claim(claim["metadata"]["name"])
            await asyncio.sleep(_GONE_POLL_SECONDS)

    async def remove_claim(self, name: str) -> None:
        """Delete a claim of this installation. None there is a success."""
        path = self._path(_CLAIMS, name)
        found = await self._cluster.find(path)
        if found is not None and names.bears(found, self._installation):
            await self._cluster.delete(path)

    async def owned(self) -> list[Owned]:
        """Every StatefulSet, and claims whose StatefulSet is gone."""
        pods = {each["metadata"]["name"]: each for each in await self._list(_PODS)}
        found = [_owned(each, pods) for each in await self._list(_SETS)]
        owned = [each for each in found if each is not None]
        known = {each.workspace_id for each in owned}
        for claim in await self._list(_CLAIMS):
            each = _owned_claim(claim)
            if each is not None and each.workspace_id not in known:
                known.add(each.workspace_id)
                owned.append(each)
        return owned

    async def last_warning(self, workspace_id: UUID) -> str:
        """The newest warning about a workspace's objects; empty without any."""
        texts = []
        for name in (names.workload(workspace_id), names.pod(workspace_id)):
            query = {"fieldSelector": f"involvedObject.name={name},type=Warning"}
            found = await self._cluster.get(self._path(_EVENTS), **query, limit=_PAGE)
            texts += [(str(each.get("lastTimestamp")), each["message"]) for each in found["items"]]
        return max(texts)[1] if texts else ""

    async def _delete_set(self, found: Json, dependents: str) -> None:
        path = self._path(_SETS, found["metadata"]["name"])
        uid = found["metadata"]["uid"]
        options = {"propagationPolicy": dependents, "preconditions": {"uid": uid}}
        await self._cluster.delete(path, options)
        while True:
            there = await self._cluster.find(path)
            if there is None or there["metadata"]["uid"] != uid:
                return
            await asyncio.sleep(_GONE_POLL_SECONDS)

    async def _scale_to_none(self, found: Json) -> None:
        if found["spec"]["replicas"] == 0:
            return
        metadata = found["metadata"]
        body = {
            "metadata": {"resourceVersion": metadata["resourceVersion"]},
            "spec": {"replicas": 0},
        }
        await self._cluster.merge(self._path(_SETS, metadata["name"]), body)

    async def _claims(self, workspace_id: UUID) -> list[Json]:
        return await self._list(_CLAIMS, workspace_id)

    async def _list(self, kind: str, workspace_id: UUID | None = None) -> list[Json]:
        items: list[Json] = []
        query = {
            "labelSelector": names.selector(self._installation, workspace_id),
            "limit": str(_PAGE),
        }
        while True:
            found = await self._cluster.get(self._path(kind), **query)
            items += found["items"]
            if not (token := found["metadata"].get("continue")):
                return items
            query["continue"] = token

    def _path(self, kind: str, name: str = "") -> str:
        path = kind.format(self._cluster.namespace)
        return f"{path}/{name}" if name else path


def is_meant(found: Json, resource: Resource) -> bool:
    """Whether a StatefulSet is what a resource names."""
    operation = names.label_id(found, names.OPERATION)
    if resource.resource_id and resource.resource_id != id_of(found):
        return False
    return resource.operation_id is None or resource.operation_id == operation


def id_of(found: Json) -> str:
    """The resource id of a StatefulSet: it changes with each start."""
    workspace = names.label_id(found, names.WORKSPACE)
    operation = names.label_id(found, names.OPERATION)
    return names.resource_id(workspace, operation) if workspace and operation else ""


def _definition(found: Json) -> tuple[str, int]:
    """Changes whenever anybody has changed what is wanted, or made the object anew."""
    metadata = found["metadata"]
    return metadata["uid"], metadata["generation"]


def _owned(found: Json, pods: dict[str, Json]) -> Owned | None:
    workspace = names.label_id(found, names.WORKSPACE)
    if workspace is None:
        return None
    pod = pods.get(names.pod(workspace))
    runs = bool(found["spec"]["replicas"]) or pod is not None
    url = url_of(pod) if pod is not None else ""
    return Owned(
        workspace,
        id_of(found) if runs else "",
        names.label_id(found, names.ORGANIZATION),
        names.label_id(found, names.OPERATION),
        runs,
        datetime.fromisoformat(found["metadata"]["creationTimestamp"]),
        url,
    )


def _owned_claim(found: Json) -> Owned | None:
    workspace = names.label_id(found, names.WORKSPACE)
    if workspace is None:
        return None
    organization = names.label_id(found, names.ORGANIZATION)
    created = datetime.fromisoformat(found["metadata"]["creationTimestamp"])
    return Owned(workspace, "", organization, None, False, created)
