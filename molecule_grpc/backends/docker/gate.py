"""Where containers find the platform: the gateway process's listeners, in a file it watches."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any, Final

from molecule_grpc.backends.contract import BackendFailure, FailureReason, StartRequest
from molecule_grpc.backends.docker.networks import Network

_LISTENERS: Final = "listeners.json"
_TYPE: Final = "type.googleapis.com/envoy."


class ListenerFile:
    """Writes the listeners. Every worker writes the same, from what the engine has.

    Args:
        directory: that the gateway process watches; None where none runs, and nobody listens.
        port: of the platform, on every gateway.
    """

    def __init__(self, directory: Path | None, port: int) -> None:
        self._directory = directory
        self._port = port
        self._written = ""

    async def networks_changed(self, networks: list[Network]) -> None:
        """Listen on the gateways of these networks, and of no others."""
        if self._directory is None:
            return
        gateways = sorted({network.gateway for network in networks if network.gateway})
        text = json.dumps({"resources": [_listener(each, self._port) for each in gateways]})
        if text != self._written:
            await asyncio.to_thread(_replace, self._directory / _LISTENERS, text)
            self._written = text

    async def admit(self, request: StartRequest, network: Network) -> tuple[tuple[str, str], ...]:
        """Refuses: no proxy runs yet that would hold a workspace to its list."""
        del request, network
        raise BackendFailure(
            FailureReason.EGRESS_UNENFORCED,
            "this version has no proxy that would hold the workspace to its list of hosts",
            undone=True,
        )


def _listener(address: str, port: int) -> dict[str, Any]:
    forward = {
        "@type": _TYPE + "extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "gateway",
        "cluster": "edge",
        # Streams of inboxes are silent for as long as nothing comes.
        "idle_timeout": "0s",
    }
    return {
        "@type": _TYPE + "config.listener.v3.Listener",
        "name": f"gateway-{address}",
        "address": {"socket_address": {"address": address, "port_value": port}},
        # The network may be there a moment later, and comes back after a restart of the engine.
        "freebind": True,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": forward}]}
        ],
    }


def _replace(path: Path, text: str) -> None:
    """Envoy reads the file when one is moved to its place: it never sees half of it."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text)
    unfinished.rename(path)
