"""What the engine is told to create for a workspace. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason
from molecule_grpc.backends.contract.workloads import StartRequest
from molecule_grpc.backends.docker import names
from molecule_grpc.backends.docker.names import Json
from molecule_grpc.backends.docker.rules import CPU_PERIOD, cpu_quota, memory_bytes
from molecule_grpc.backends.sizes import TierSize, size_of
from molecule_grpc.settings.docker import DockerSettings

AGENT_PORT: Final = "8000/tcp"
HOST_NETWORK: Final = "host"
PLATFORM_HOST: Final = "host.docker.internal"
SECRETS_DIRECTORY: Final = "/run/secrets"
_SESSIONS_DIRECTORY: Final = "/root/.claude/sessions"
_CLAUDE_CODE: Final = "claude-code"
_ENGINE_SOCKET: Final = "/var/run/docker.sock"
# Of a container's log the engine keeps two files of this size.
_LOG: Final = {"Type": "json-file", "Config": {"max-size": "5m", "max-file": "2"}}
_LOWEST, _PRIVILEGED, _HIGHEST = 1, 3, 4


@dataclass(frozen=True, slots=True)
class Attachment:
    """The network of a container.

    Args:
        name: of the network.
        gateway: the machine's address on the network, where the platform listens.
        internal: whether the network has no other way out.
        environment: what programs must know to get out by the proxy.
        address: of the container; empty for one of the engine's choice.
        port: of the machine, which leads to the agent; 0 on an internal network.
    """

    name: str
    gateway: str
    internal: bool
    environment: tuple[tuple[str, str], ...] = ()
    address: str = ""
    port: int = 0


def specification(
    request: StartRequest,
    image: str,
    attachment: Attachment,
    settings: DockerSettings,
    *,
    labels: dict[str, str],
    platform_port: int,
) -> Json:
    """The body of a call that creates the container.

    Raises:
        BackendFailure: `configuration`: what was asked for can never start.
    """
    name = names.container(request.workspace_id)
    host = _host_config(request, attachment, settings)
    body: Json = {
        "Image": image,
        "Labels": labels,
        "Env": _environment(request, attachment, platform_port),
        "ExposedPorts": {AGENT_PORT: {}},
        "HostConfig": host,
    }
    if attachment.internal:
        # A name server inside the container, where nobody is. The engine's own would send questions
        # on to the machine's, from which any list could be talked around; the proxy looks names up.
        host["Dns"] = ["127.0.0.1"]
    if host["NetworkMode"] == HOST_NETWORK:
        host["ExtraHosts"] = [f"{PLATFORM_HOST}:127.0.0.1"]
        host.pop("PortBindings", None)
        return body
    body["Hostname"] = name
    endpoint: Json = {"Aliases": [name]}
    if attachment.address:
        endpoint["IPAMConfig"] = {"IPv4Address": attachment.address}
    body["NetworkingConfig"] = {"EndpointsConfig": {attachment.name: endpoint}}
    return body


def purposes(request: StartRequest) -> list[str]:
    """Of the volumes that the workspace needs."""
    wanted = [names.CONFIGS]
    if request.tier != _LOWEST and not _bound(request):
        wanted.append(names.DATA)
    if request.runtime == _CLAUDE_CODE and request.tier != _LOWEST:
        wanted.append(names.SESSIONS)
    if request.secret_files:
        wanted.append(names.SECRETS)
    return wanted


def _environment(request: StartRequest, attachment: Attachment, port: int) -> list[str]:
    platform = request.platform_url or f"http://{PLATFORM_HOST}:{port}"
    variables = {
        "WORKSPACE_ID": str(request.workspace_id),
        "WORKSPACE_CONFIG_PATH": "/configs",
        "PLATFORM_URL": platform,
        "MOLECULE_URL": platform,
        "TIER": str(request.tier),
        "PLUGINS_DIR": "/plugins",
        "PYTHONPATH": "/app",
        **request.env,
        # Last: nothing that a template or a secret says leads around the proxy's variables.
        **dict(attachment.environment),
    }
    return [f"{name}={value}" for name, value in variables.items()]


def _host_config(request: StartRequest, attachment: Attachment, settings: DockerSettings) -> Json:
    size = _size(request, settings)
    config: Json = {
        "RestartPolicy": {"Name": "unless-stopped"},
        "NetworkMode": attachment.name,
        "ExtraHosts": [f"{PLATFORM_HOST}:{attachment.gateway}"],
        "Mounts": _mounts(request),
        "PidsLimit": request.limits.pids or settings.pids,
        "Init": True,
        "LogConfig": _LOG,
        "Memory": memory_bytes(size),
        # Without this the engine grants as much swap on top.
        "MemorySwap": memory_bytes(size),
        "CpuPeriod": CPU_PERIOD,
        "CpuQuota": cpu_quota(size),
        **_isolation(request, settings),
    }
    if request.oci_runtime:
        config["Runtime"] = request.oci_runtime
    if attachment.port:
        binding = {"HostIp": "127.0.0.1", "HostPort": str(attachment.port)}
        config["PortBindings"] = {AGENT_PORT: [binding]}
    return config


def _isolation(request: StartRequest, settings: DockerSettings) -> Json:
    if request.tier == _LOWEST:
        return {
            "SecurityOpt": ["no-new-privileges"],
            "CapDrop": ["ALL"],
            "ReadonlyRootfs": True,
            "Tmpfs": {"/tmp": "size=64m,noexec,nosuid"},  # noqa: S108 - inside the container
        }
    if request.tier not in settings.privileged_tiers:
        if request.egress is None:
            return {"SecurityOpt": ["no-new-privileges"]}
        # With raw sockets a container could answer for the addresses of its neighbours and of the
        # gateway, and read the passwords that they send to the proxy.
        return {"SecurityOpt": ["no-new-privileges"], "CapDrop": ["NET_RAW"]}
    if request.egress is not None:
        raise BackendFailure(
            FailureReason.CONFIGURATION,
            "a privileged workspace cannot be held to a list of hosts",
        )
    config: Json = {"Privileged": True, "PidMode": "host"}
    if request.tier == _HIGHEST:
        config["NetworkMode"] = HOST_NETWORK
        config["Binds"] = [f"{_ENGINE_SOCKET}:{_ENGINE_SOCKET}"]
    return config


def _size(request: StartRequest, settings: DockerSettings) -> TierSize:
    own = {
        2: TierSize(settings.tier2_memory_mb, settings.tier2_cpu_shares),
        3: TierSize(settings.tier3_memory_mb, settings.tier3_cpu_shares),
        4: TierSize(settings.tier4_memory_mb, settings.tier4_cpu_shares),
    }
    return size_of(request.tier, own, request.limits.memory_mb, request.limits.cpu_shares)


def _bound(request: StartRequest) -> bool:
    return bool(request.workspace_dir) and request.workspace_access != "none"


def _mounts(request: StartRequest) -> list[Json]:
    places = {
        names.CONFIGS: "/configs",
        names.DATA: "/workspace",
        names.SESSIONS: _SESSIONS_DIRECTORY,
        names.SECRETS: SECRETS_DIRECTORY,
    }
    mounts = [
        _volume(names.volume(request.workspace_id, purpose), places[purpose])
        for purpose in purposes(request)
    ]
    if request.tier != _LOWEST and _bound(request):
        mounts.append(_bind(request))
    return mounts


def _volume(name: str, target: str) -> Json:
    return {"Type": "volume", "Source": name, "Target": target}


def _bind(request: StartRequest) -> Json:
    path = PurePosixPath(request.workspace_dir)
    if not path.is_absolute() or ".." in path.parts:
        raise BackendFailure(
            FailureReason.CONFIGURATION, "the workspace's directory must be an absolute path"
        )
    return {
        "Type": "bind",
        "Source": str(path),
        "Target": "/workspace",
        "ReadOnly": request.workspace_access != "read_write",
    }
