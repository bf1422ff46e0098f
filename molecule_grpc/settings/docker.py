"""The Docker engine of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from molecule_grpc.settings.egress import NETWORKS
from molecule_grpc.settings.pairs import Pairs, pairs
from molecule_grpc.settings.values import (
    COUNT,
    OPTIONAL_PATH,
    PORT,
    SECONDS,
    SWITCH,
    TEXT,
    TRUE_OR_FALSE,
    Kind,
    setting,
)

_TIERS: Final = (1, 2, 3, 4)


def _tiers(text: str) -> tuple[int, ...]:
    tiers = tuple(int(word) for word in text.split(",") if word.strip())
    if not set(tiers) <= set(_TIERS):
        raise ValueError
    return tiers


def _show_tiers(value: object) -> str:
    assert isinstance(value, tuple)
    return ",".join(map(str, value))


def _port_range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    ports = int(first), int(last)
    if not 1024 <= ports[0] <= ports[1] <= 65535:
        raise ValueError
    return ports


def _show_port_range(ports: tuple[int, int]) -> str:
    return f"{ports[0]}-{ports[1]}"


def _positive_or_default(text: str) -> int:
    """A positive number; 0, which means the default, for whatever else is written there."""
    try:
        return max(0, int(text))
    except ValueError:
        return 0


_SOME_TIERS: Final = Kind(_tiers, "tiers from 1 to 4 with commas between them", _show_tiers)
_PORTS: Final = Kind(
    _port_range, "the first and the last port, such as 20000-29999", _show_port_range
)
_OWN: Final = Kind(_positive_or_default, "a whole number")


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerSettings:
    """Containers of workspaces.

    Args:
        host: URL of the engine; empty for the one that the `docker` command would use.
        images: the image of each runtime; `*` stands for all others.
        image_template: names the images of runtimes that `images` leaves out.
        default_runtime: whose image a workspace without a runtime gets.
        local_images: never pull and ignore pins: use what the engine has.
        image_auto_refresh: ask registries now and then whether moving names mean other images; pull
            those that do, and restart the workspaces that run older ones.
        image_refresh_interval: seconds between such questions.
        ghcr_user: whom ghcr.io knows; with `ghcr_token`, before what `docker login` has kept.
        ghcr_token: that user's token.
        image_platform: such as linux/amd64; empty for the engine's own.
        privileged_tiers: tiers whose containers are privileged and share the machine's processes;
            tier 4 then also has its network and the engine's socket. Whoever controls such a
            container controls the machine.
        network_name: name of the containers' network; empty for `molecule-` with the
            installation's id.
        ports: first and last of the machine's ports that lead to agents, on 127.0.0.1 alone. Below
            those from which the machine's own connections go out.
        pids: processes and threads that one workspace may have.
        proxy_port: where the proxy listens on the gateways of closed networks.
        proxy_connections: connections to the proxy that all workspaces of one organisation may have
            at once; more are closed.
        proxy_networks: private networks that workspaces may reach through the proxy, where their
            lists name a host there; the machine's own addresses stay refused.
        probe_image: has `python3` or `node`, with which it is tried whether a closed network is
            filtered; empty for the image of the workspace.
        gateway_directory: `up` sets it: where workers write the addresses at which containers find
            the platform.
        tier2_memory_mb: memory of a workspace of tier 2; 0 or nonsense for 512.
        tier2_cpu_shares: processors of a workspace of tier 2, in 1024ths; 0 for 1024.
        tier3_memory_mb: 0 for 2048.
        tier3_cpu_shares: 0 for 2048.
        tier4_memory_mb: 0 for 4096.
        tier4_cpu_shares: 0 for 4096.
    """

    host: str = setting("MOLECULE_DOCKER_HOST", TEXT, "")
    images: Pairs = setting("MOLECULE_DOCKER_IMAGES", pairs("runtime=image"), ())
    image_template: str = setting(
        "MOLECULE_DOCKER_IMAGE_TEMPLATE", TEXT, "workspace-template:{runtime}"
    )
    default_runtime: str = setting("MOLECULE_DOCKER_DEFAULT_RUNTIME", TEXT, "langgraph")
    local_images: bool = setting("WORKSPACE_IMAGE_LOCAL_OVERRIDE", SWITCH, False)
    image_auto_refresh: bool = setting("IMAGE_AUTO_REFRESH", TRUE_OR_FALSE, False)
    image_refresh_interval: float = setting("MOLECULE_IMAGE_REFRESH_SECONDS", SECONDS, 300.0)
    ghcr_user: str = setting("GHCR_USER", TEXT, "")
    ghcr_token: str = setting("GHCR_TOKEN", TEXT, "", secret=True)
    image_platform: str = setting("MOLECULE_IMAGE_PLATFORM", TEXT, "")
    privileged_tiers: tuple[int, ...] = setting("MOLECULE_DOCKER_PRIVILEGED_TIERS", _SOME_TIERS, ())
    network_name: str = setting("MOLECULE_DOCKER_NETWORK", TEXT, "")
    ports: tuple[int, int] = setting("MOLECULE_DOCKER_PORTS", _PORTS, (20000, 29999))
    pids: int = setting("MOLECULE_DOCKER_PIDS", COUNT, 1024)
    proxy_port: int = setting("MOLECULE_PROXY_PORT", PORT, 3128)
    proxy_connections: int = setting("MOLECULE_PROXY_CONNECTIONS_PER_ORGANIZATION", COUNT, 512)
    proxy_networks: tuple[str, ...] = setting("MOLECULE_PROXY_NETWORKS", NETWORKS, ())
    probe_image: str = setting("MOLECULE_DOCKER_PROBE_IMAGE", TEXT, "")
    gateway_directory: Path | None = setting("MOLECULE_GATEWAY_DIRECTORY", OPTIONAL_PATH, None)
    tier2_memory_mb: int = setting("TIER2_MEMORY_MB", _OWN, 0)
    tier2_cpu_shares: int = setting("TIER2_CPU_SHARES", _OWN, 0)
    tier3_memory_mb: int = setting("TIER3_MEMORY_MB", _OWN, 0)
    tier3_cpu_shares: int = setting("TIER3_CPU_SHARES", _OWN, 0)
    tier4_memory_mb: int = setting("TIER4_MEMORY_MB", _OWN, 0)
    tier4_cpu_shares: int = setting("TIER4_CPU_SHARES", _OWN, 0)
