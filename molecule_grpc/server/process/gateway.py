"""The edge's doors for containers: an Envoy that listens where the worker that runs them says."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any, Final

from molecule_grpc.kernel import open_files
from molecule_grpc.server.children import spawn, stop
from molecule_grpc.server.edge.process import LOG_FORMAT, UTC, envoy_program
from molecule_grpc.settings.edge import EdgeSettings

# Of a worker's environment: where it writes the file of listeners.
VARIABLE: Final = "MOLECULE_GATEWAY_DIRECTORY"
LISTENERS: Final = "listeners.json"
DECIDER: Final = "decider.sock"
# The listeners bound the connections of each organisation, and each has one request at a time.
_NO_BREAKER: Final = {
    "thresholds": [
        dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), 100000)
    ]
}
# Of a client and of the host; and of Envoy itself.
_FILES_OF_A_CONNECTION: Final = 2
_FILES: Final = 128
_HTTP_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_CONNECTIONS: Final = (
    "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3"
    ".DownstreamConnectionsConfig"
)
_TLS: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"


class GatewayProcess:
    """Envoy on the gateways of the containers' networks, which forwards bytes to the public port.

    The machine's other addresses stay closed: the public port goes on listening at MOLECULE_HOST.

    Args:
        parent: in which its directory is made.
    """

    def __init__(self, parent: Path, edge: EdgeSettings) -> None:
        self.directory = parent / "gateway"
        self.directory.mkdir(mode=0o700)
        (self.directory / LISTENERS).write_text('{"resources": []}')
        self._config = self.directory / "envoy.json"
        self._config.write_text(json.dumps(self._bootstrap(edge)))
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The process that was started last."""
        assert self._process is not None, "not started"
        return self._process.pid

    async def start(self) -> None:
        """Start Envoy. It listens nowhere until a worker says where."""
        command = (
            envoy_program(),
            *("--config-path", self._config, "--concurrency", "1", "--disable-hot-restart"),
            *("--log-level", "warning", "--log-format", LOG_FORMAT),
        )
        self._process = await spawn(command, env=UTC)

    async def wait(self) -> int:
        """Wait until the process has ended; the exit code."""
        assert self._process is not None, "not started"
        return await self._process.wait()

    async def answers(self) -> bool:
        """Whether Envoy's main thread answers."""
        try:
            async with asyncio.timeout(1):
                reader, writer = await asyncio.open_unix_connection(self._admin)
                with contextlib.closing(writer):
                    writer.write(b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    return bool(await reader.read())
        except (OSError, TimeoutError):
            return False

    async def stop(self, wait_limit: float) -> None:
        """End the gateway, which closes the connections of containers."""
        if self._process is not None:
            await stop(self._process, wait_limit=wait_limit)

    @property
    def _admin(self) -> Path:
        return self.directory / "admin.sock"

    def _bootstrap(self, edge: EdgeSettings) -> dict[str, Any]:
        source = {
            "path": str(self.directory / LISTENERS),
            "watched_directory": {"path": str(self.directory)},
        }
        return {
            "node": {"id": "gateway", "cluster": "molecule"},
            "admin": {"address": {"pipe": {"path": str(self._admin), "mode": 0o600}}},
            "dynamic_resources": {
                "lds_config": {"path_config_source": source, "resource_api_version": "V3"}
            },
            "static_resources": {"clusters": [_edge_cluster(edge), self._decider(), _origin()]},
            "overload_manager": _overload(),
        }

    def _decider(self) -> dict[str, Any]:
        """The worker that says which host a workspace may reach."""
        endpoint = {"address": {"pipe": {"path": str(self.directory / DECIDER)}}}
        return {
            "name": "decider",
            "type": "STATIC",
            "connect_timeout": "1s",
            "circuit_breakers": _NO_BREAKER,
            "load_assignment": {
                "cluster_name": "decider",
                "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
            },
        }


def _origin() -> dict[str, Any]:
    """Hosts that workspaces reach: each request names the address that was checked for it.

    A connection carries one request, so that no workspace reads what another one's has left. No
    name is looked up here.
    """
    key = {"key": "molecule.proxy", "path": [{"key": "address"}]}
    one = {"max_requests_per_connection": 1}
    return {
        "name": "origin",
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "connect_timeout": "10s",
        "per_connection_buffer_limit_bytes": 64 * 1024,
        "original_dst_lb_config": {"metadata_key": key},
        "circuit_breakers": _NO_BREAKER,
        "typed_extension_protocol_options": {
            _HTTP_OPTIONS: {
                "@type": f"type.googleapis.com/{_HTTP_OPTIONS}",
                "common_http_protocol_options": one,
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
    }


def _overload() -> dict[str, Any]:
    """Connections beyond what the process may open are closed at once."""
    most = max(open_files.limit() // _FILES_OF_A_CONNECTION - _FILES, _FILES)
    return {
        "resource_monitors": [
            {
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": {"@type": _CONNECTIONS, "max_active_downstream_connections": most},
            }
        ]
    }


def _edge_cluster(edge: EdgeSettings) -> dict[str, Any]:
    """The public port as a destination; its certificate is this installation's own."""
    address = {"socket_address": {"address": edge.local_host, "port_value": edge.port}}
    cluster: dict[str, Any] = {
        "name": "edge",
        "type": "STRICT_DNS",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": "edge",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
    if edge.tls:
        config = {"@type": _TLS, "common_tls_context": {"alpn_protocols": ["http/1.1"]}}
        cluster["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": config,
        }
    return cluster
