"""What the cluster is told to make for a workspace. No I/O."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason
from molecule_grpc.backends.contract.workloads import StartRequest
from molecule_grpc.backends.kubernetes import names
from molecule_grpc.backends.kubernetes.names import Json
from molecule_grpc.backends.sizes import SHARES_OF_ONE, TIER_SIZES, TierSize, size_of
from molecule_grpc.settings.kubernetes import KubernetesSettings

AGENT_PORT: Final = 8000
SECRETS_DIRECTORY: Final = "/run/secrets"
_SEED_DIRECTORY: Final = "/run/molecule/configs"
_SESSIONS_DIRECTORY: Final = "/root/.claude/sessions"
_CLAUDE_CODE: Final = "claude-code"
_LOWEST: Final = 1
# An agent that ignores SIGTERM is killed after so long.
_GRACE_SECONDS: Final = 10
# What the scheduler keeps free for a pod; the limits are the tier's.
_RESERVED_CPU_MILLIS: Final = 50
_RESERVED_MEMORY_MB: Final = 64
_PORTS: Final = {"http": 80, "https": 443}
_NAME_SERVER: Final = {
    "to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}],
    "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
}
# Of a Secret, all values together.
_MOST_SECRET_BYTES: Final = 1024 * 1024
# The links that a mounted Secret consists of lead to files below `..data`, which is left out.
_SEED: Final = (
    f"cd {_SEED_DIRECTORY} && find -L . -path './..*' -prune -o -type f -print | "
    'while IFS= read -r each; do mkdir -p "/configs/${each%/*}" && cat "$each" > "/configs/$each";'
    " done"
)


def stateful_set(
    request: StartRequest,
    settings: KubernetesSettings,
    installation: str,
    *,
    image: str,
    replicas: int,
    claims: list[Json] | None = None,
) -> Json:
    """A StatefulSet with 1 replica or 0; with 0 the claims of the earlier pod remain.

    Args:
        claims: the templates of claims that are there already, which can never be changed.
    """
    name = names.workload(request.workspace_id)
    identity = names.labels(installation, request.workspace_id, request.organization_id)
    labels = {**identity, names.OPERATION: str(request.operation_id)}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": replicas,
            "serviceName": "",
            "selector": {"matchLabels": {names.WORKSPACE: str(request.workspace_id)}},
            # A pod that never became ready must not keep its successor from being made.
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "OnDelete"},
            "persistentVolumeClaimRetentionPolicy": {
                "whenDeleted": "Delete",
                "whenScaled": "Retain",
            },
            "template": {
                "metadata": {"labels": labels},
                "spec": _pod(request, settings, image),
            },
            "volumeClaimTemplates": claims or _claims(request, settings, identity),
        },
    }


def secret(request: StartRequest, installation: str, owner: Json) -> Json:
    """All that the pod must know and its definition may not show. Ends with its owner.

    Raises:
        BackendFailure: `configuration`: more than a Secret holds.
    """
    data = {f"env.{name}": value.encode() for name, value in request.env.items()}
    data |= {_key("config", at): text for at, text in enumerate(request.config_files.values())}
    data |= {_key("secret", at): text for at, text in enumerate(request.secret_files.values())}
    if sum(map(len, data.values())) > _MOST_SECRET_BYTES:
        raise BackendFailure(
            FailureReason.CONFIGURATION,
            "the workspace's variables and first files together exceed 1 MiB",
        )
    encoded = {name: base64.b64encode(value).decode() for name, value in data.items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _owned(request, installation, owner),
        "type": "Opaque",
        "data": encoded,
    }


def network_policy(
    request: StartRequest, settings: KubernetesSettings, installation: str, owner: Json
) -> Json:
    """Lets the pod reach the platform and the addresses of its list, and nothing else.

    Raises:
        BackendFailure: `egress_unenforced`: a cluster cannot hold a pod to names of hosts.
    """
    peers = [_peer(host) for host in request.egress or ()]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": _owned(request, installation, owner),
        "spec": {
            "podSelector": {"matchLabels": {names.WORKSPACE: str(request.workspace_id)}},
            "policyTypes": ["Egress"],
            "egress": [*_to_platform(request.platform_url, settings), *peers],
        },
    }


def _to_platform(url: str, settings: KubernetesSettings) -> list[Json]:
    """Where the platform has a name, also the cluster's name server."""
    address = urlsplit(url)
    host = address.hostname or ""
    port = address.port or _PORTS[address.scheme]
    try:
        ipaddress.ip_address(host)
    except ValueError:
        rules = [_peer(f"{range_}") for range_ in settings.platform_addresses]
        return [*rules, _NAME_SERVER]
    return [_peer(f"{host}:{port}")]


def _peer(text: str) -> Json:
    host, _, port = text.rpartition(":") if text.count(":") == 1 else (text, "", "")
    try:
        network = ipaddress.ip_network(host.strip("[]"))
    except ValueError as error:
        raise BackendFailure(
            FailureReason.EGRESS_UNENFORCED,
            "on Kubernetes a workspace is held to addresses, not to names of hosts",
            detail=text,
        ) from error
    rule: Json = {"to": [{"ipBlock": {"cidr": str(network)}}]}
    if port:
        rule["ports"] = [{"protocol": "TCP", "port": int(port)}]
    return rule


def _owned(request: StartRequest, installation: str, owner: Json) -> Json:
    return {
        "name": names.workload(request.workspace_id),
        "labels": names.labels(
            installation, request.workspace_id, request.organization_id, request.operation_id
        ),
        "ownerReferences": [
            {
                "apiVersion": "apps/v1",
                "kind": "StatefulSet",
                "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"],
            }
        ],
    }


def _pod(request: StartRequest, settings: KubernetesSettings, image: str) -> Json:
    spec: Json = {
        # The agent has no business with the cluster's API.
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _GRACE_SECONDS,
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_container(request, image)],
        "volumes": _volumes(request),
    }
    if request.config_files:
        spec["initContainers"] = [_seeding(request, image)]
    runtime_class = request.oci_runtime or settings.runtime_class
    if runtime_class:
        spec["runtimeClassName"] = runtime_class
    if settings.node_selector:
        spec["nodeSelector"] = dict(settings.node_selector)
    if settings.tolerations:
        spec["tolerations"] = list(settings.tolerations)
    if settings.image_pull_secret:
        spec["imagePullSecrets"] = [{"name": settings.image_pull_secret}]
    return spec


def _seeding(request: StartRequest, image: str) -> Json:
    return {
        "name": names.CONFIGS,
        "image": image,
        "command": ["sh", "-c", _SEED],
        "securityContext": _isolation(request),
        "volumeMounts": [
            {"name": names.CONFIGS, "mountPath": "/configs"},
            {"name": "seed", "mountPath": _SEED_DIRECTORY, "readOnly": True},
        ],
    }


def _container(request: StartRequest, image: str) -> Json:
    return {
        "name": names.CONTAINER,
        "image": image,
        "env": _environment(request),
        "ports": [{"name": "agent", "containerPort": AGENT_PORT}],
        "resources": _resources(request),
        "securityContext": _isolation(request),
        "volumeMounts": _mounts(request),
    }


def _environment(request: StartRequest) -> list[Json]:
    plain = {
        "WORKSPACE_ID": str(request.workspace_id),
        "WORKSPACE_CONFIG_PATH": "/configs",
        "PLATFORM_URL": request.platform_url,
        "MOLECULE_URL": request.platform_url,
        "TIER": str(request.tier),
        "PLUGINS_DIR": "/plugins",
        "PYTHONPATH": "/app",
    }
    source = names.workload(request.workspace_id)
    return [
        *(
            {"name": name, "value": value}
            for name, value in plain.items()
            if name not in request.env
        ),
        *(
            {
                "name": name,
                "valueFrom": {"secretKeyRef": {"name": source, "key": f"env.{name}"}},
            }
            for name in request.env
        ),
    ]


def _resources(request: StartRequest) -> Json:
    size: TierSize = size_of(
        request.tier, TIER_SIZES, request.limits.memory_mb, request.limits.cpu_shares
    )
    cpu, memory = size.cpu_shares * 1000 // SHARES_OF_ONE, size.memory_mb
    limits = {}
    if memory:
        limits["memory"] = f"{memory}Mi"
    if cpu:
        limits["cpu"] = f"{cpu}m"
    requests = {
        "memory": f"{min(_RESERVED_MEMORY_MB, memory or _RESERVED_MEMORY_MB)}Mi",
        "cpu": f"{min(_RESERVED_CPU_MILLIS, cpu or _RESERVED_CPU_MILLIS)}m",
    }
    return {"requests": requests, "limits": limits}


def _isolation(request: StartRequest) -> Json:
    if request.tier != _LOWEST:
        return {"allowPrivilegeEscalation": False}
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def _mounts(request: StartRequest) -> list[Json]:
    places = {names.CONFIGS: "/configs"}
    if request.tier != _LOWEST:
        places[names.DATA] = "/workspace"
    if _has_sessions(request):
        places[names.SESSIONS] = _SESSIONS_DIRECTORY
    mounts: list[Json] = [{"name": name, "mountPath": path} for name, path in places.items()]
    if request.secret_files:
        mounts.append({"name": "secrets", "mountPath": SECRETS_DIRECTORY, "readOnly": True})
    if request.tier == _LOWEST:
        mounts.append({"name": "tmp", "mountPath": "/tmp"})  # noqa: S108 - inside the container
    return mounts


def _volumes(request: StartRequest) -> list[Json]:
    volumes = []
    # A Secret's volume without items would show all that the Secret holds.
    if request.config_files:
        volumes.append(_files("seed", "config", request, request.config_files))
    if request.secret_files:
        volumes.append(_files("secrets", "secret", request, request.secret_files))
    if request.tier == _LOWEST:
        volumes.append({"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}})
    return volumes


def _files(name: str, kind: str, request: StartRequest, files: Mapping[str, bytes]) -> Json:
    items = [{"key": _key(kind, at), "path": path} for at, path in enumerate(files)]
    source = {"secretName": names.workload(request.workspace_id), "items": items}
    return {"name": name, "secret": source}


def _key(kind: str, at: int) -> str:
    return f"{kind}.{at}"


def _claims(
    request: StartRequest, settings: KubernetesSettings, labels: Mapping[str, str]
) -> list[Json]:
    sizes = {names.CONFIGS: settings.config_storage}
    if request.tier != _LOWEST:
        sizes[names.DATA] = settings.data_storage
    if _has_sessions(request):
        sizes[names.SESSIONS] = settings.config_storage
    return [_claim(name, size, settings, labels) for name, size in sizes.items()]


def _claim(name: str, size: str, settings: KubernetesSettings, labels: Mapping[str, str]) -> Json:
    spec: Json = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
    }
    if settings.storage_class:
        spec["storageClassName"] = settings.storage_class
    return {"metadata": {"name": name, "labels": dict(labels)}, "spec": spec}


def _has_sessions(request: StartRequest) -> bool:
    return request.runtime == _CLAUDE_CODE and request.tier != _LOWEST
