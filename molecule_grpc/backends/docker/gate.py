"""Where containers find the platform and the proxy: listeners of the gateway process, in a file."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Final, Protocol

from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason
from molecule_grpc.backends.contract.workloads import StartRequest
from molecule_grpc.backends.docker.container_spec import PLATFORM_HOST
from molecule_grpc.backends.docker.listeners import listeners
from molecule_grpc.backends.docker.networks import Network
from molecule_grpc.resources import envoy_dir
from molecule_grpc.settings.docker import DockerSettings

_LISTENERS: Final = "listeners.json"
_SCRIPT: Final = "proxy.lua"

Variables = tuple[tuple[str, str], ...]


class Gate(Protocol):
    """Stands between containers and the world: the platform's second listener and the proxy."""

    async def networks_changed(self, networks: list[Network]) -> None:
        """Listen on the gateways of these networks, and of no others."""
        ...

    def admit(self, request: StartRequest, network: Network) -> Variables:
        """The variables that lead the programs of a workspace to the proxy, and to the platform.

        Raises:
            BackendFailure: `egress_unenforced`: there is no proxy; `configuration`: the platform
                cannot be reached from the network of the workspace.
        """
        ...


class NoGate:
    """Nothing listens for containers, and none is held to a list of hosts."""

    async def networks_changed(self, networks: list[Network]) -> None:
        """Nobody is told."""

    def admit(self, request: StartRequest, network: Network) -> Variables:
        """Refuses: there is no proxy."""
        del request, network
        raise _no_proxy()


class ListenerFile:
    """Writes the listeners. Every worker writes the same, from what the engine has.

    Args:
        directory: that the gateway process watches; None where none runs, and nobody listens.
        port: of the platform, on every gateway.
        certificates: whether the platform asks its clients for certificates.
    """

    def __init__(
        self, directory: Path | None, port: int, settings: DockerSettings, *, certificates: bool
    ) -> None:
        self._directory = directory
        self._port = port
        self._settings = settings
        self._certificates = certificates
        self._lua = (envoy_dir() / _SCRIPT).read_text()
        self._written = ""

    async def networks_changed(self, networks: list[Network]) -> None:
        """Listen on the gateways of these networks, and of no others."""
        if self._directory is None:
            return
        made = listeners(networks, self._settings, self._port, self._lua)
        text = json.dumps({"resources": made})
        if text != self._written:
            await asyncio.to_thread(_replace, self._directory / _LISTENERS, text)
            self._written = text

    def admit(self, request: StartRequest, network: Network) -> Variables:
        """The variables of proxy and platform."""
        if self._directory is None:
            raise _no_proxy()
        if self._certificates:
            raise BackendFailure(
                FailureReason.CONFIGURATION,
                "where clients must show a certificate, a workspace that is held to a list of hosts"
                " cannot reach the platform",
                undone=True,
            )
        platform = f"http://{PLATFORM_HOST}:{self._port}"
        name, password = request.workspace_id, request.proxy_password
        proxy = f"http://{name}:{password}@{PLATFORM_HOST}:{self._settings.proxy_port}"
        direct = f"{PLATFORM_HOST},{network.gateway},localhost,127.0.0.1,::1"
        pairs = {"HTTPS_PROXY": proxy, "HTTP_PROXY": proxy, "NO_PROXY": direct}
        # Programs disagree on the case; curl reads `http_proxy` in lower case alone.
        lower = {variable.lower(): value for variable, value in pairs.items()}
        # No other way leads to the platform from here, whatever EXTERNAL_PLATFORM_URL says.
        return tuple((pairs | lower | {"PLATFORM_URL": platform, "MOLECULE_URL": platform}).items())


def _no_proxy() -> BackendFailure:
    return BackendFailure(
        FailureReason.EGRESS_UNENFORCED,
        "no proxy runs that would hold the workspace to its list of hosts",
        undone=True,
    )


def _replace(path: Path, text: str) -> None:
    """Envoy reads the file when one is moved to its place: it never sees half of it."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text)
    unfinished.rename(path)
