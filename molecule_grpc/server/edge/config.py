"""Envoy's configuration for this installation, filled from the templates in `envoy/`."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from molecule_grpc.auth.tokens import MAX_AUTHORIZATION_CHARS
from molecule_grpc.kernel.errors import Exhausted
from molecule_grpc.kernel.sizes import (
    MAX_HEADER_BYTES,
    MAX_REQUEST_BYTES,
    MAX_STRANGER_HEADER_BYTES,
)
from molecule_grpc.resources import descriptor_set, envoy_dir
from molecule_grpc.server.edge.access_log import access_log
from molecule_grpc.server.edge.filters import (
    Json,
    cors,
    has_details,
    is_status,
    open_rate_limit,
    rate_limit,
    retry_after,
    router,
    transcoder,
)
from molecule_grpc.server.edge.routes import face_tables, lua, routes
from molecule_grpc.server.edge.surface import Rpc, read_surface
from molecule_grpc.server.edge.tls import transport_socket
from molecule_grpc.server.status import Code
from molecule_grpc.server.status import render as render_failure

_MIB = 1024 * 1024
_PUBLIC = "public"
_PLACEHOLDER = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeConfig:
    """What differs between installations. Sizes are in bytes, times in seconds.

    Args:
        worker_sockets: Unix sockets of the workers' gRPC servers. With `hosted`, that of the worker
            in this process, for the operator's port; none without that port.
        vacant_sockets: how many of them nobody listens at, so that a worker can be replaced.
        hosted: serve the public port by the application in Envoy's own process, which may share the
            port with other such processes.
        tls_directory: where `write_secrets` has written what TLS needs; None for plain HTTP. The
            operator's port stays plain.
        client_certificates: whether clients must show a certificate of the authority of clients.
        metrics_port: loopback port that serves Prometheus text for all workers; None for none.
        metrics_token: with it, /metrics is served on the public port to whoever shows the token.
        public_metrics: whether /metrics is served on the public port to anybody.
        operator_port: loopback port for AdminService and /metrics; the public port then refuses
            AdminService. None serves AdminService on the public port.
        rate_limit_per_minute: calls a minute of one client address; 0 means no limit.
        stranger_calls_per_minute: the same of calls without a token.
        memory_bytes: memory from which on calls that hold much of it are cut off.
        call_seconds: how long a call with one answer may take, if its method may not last.
        stream_idle_seconds: how long a unary call may stand still, or a REST body stall.
        stalled_seconds: a stream with a beat is reset when nothing was passed on for so long: its
            client takes nothing.
        connection_idle_seconds: how long a connection may be open without a call.
        max_connections: of clients; further ones are closed.
        max_request_bytes: largest REST body.
        max_response_bytes: largest REST answer, or message of a stream.
        concurrency: threads of Envoy.
        access_log_share: of all calls that is written to standard output; 0 for none, 1 for all.
    """

    port: int
    worker_sockets: Sequence[Path]
    vacant_sockets: int = 0
    hosted: Json | None = None
    host: str = "127.0.0.1"
    tls_directory: Path | None = None
    client_certificates: bool = False
    metrics_port: int | None = None
    metrics_token: str = field(default="", repr=False)
    public_metrics: bool = False
    operator_port: int | None = None
    operator_host: str = "127.0.0.1"
    cors_origins: Sequence[str] = ()
    rate_limit_per_minute: int = 0
    stranger_calls_per_minute: int = 0
    memory_bytes: int = 1024 * _MIB
    call_seconds: float = 60.0
    stream_idle_seconds: float = 75.0
    stalled_seconds: float = 70.0
    connection_idle_seconds: float = 300.0
    max_connections: int = 100_000
    max_request_bytes: int = MAX_REQUEST_BYTES
    max_response_bytes: int = 64 * _MIB
    concurrency: int = max(1, (os.cpu_count() or 1) // 2)
    access_log_share: float = 0.0
    descriptor_set: Path = field(default_factory=descriptor_set)


def render(config: EdgeConfig, admin_socket: Path) -> str:
    """Envoy's configuration. Its admin interface listens on the Unix socket `admin_socket`."""
    rpcs = read_surface(config.descriptor_set)
    split = config.operator_port is not None
    # A worker in this process is no upstream: the process goes by its directory.
    process = str(admin_socket.parent) if config.hosted else "%UPSTREAM_HOST%"
    log = access_log(config.access_log_share, process)
    address = config.host, config.port
    listeners = [_listener(config, rpcs, _PUBLIC, address, log, operator=not split)]
    if config.operator_port is not None:
        address = config.operator_host, config.operator_port
        listeners.append(_listener(config, rpcs, "operator", address, log, operator=True))
    return _fill(
        "envoy.yaml",
        admin_socket=json.dumps(str(admin_socket)),
        memory_bytes=str(config.memory_bytes),
        max_connections=str(config.max_connections),
        listeners=_yaml_list(listeners),
        panic_below_percent="100" if config.hosted else "0",
        health_timeout="1s" if len(config.worker_sockets) - config.vacant_sockets > 1 else "5s",
        worker_endpoints=json.dumps(
            [_endpoint({"pipe": {"path": str(path)}}) for path in config.worker_sockets]
        ),
        metrics_endpoints=json.dumps(_metrics_endpoints(config.metrics_port)),
    )


def _listener(
    config: EdgeConfig,
    rpcs: list[Rpc],
    name: str,
    address: tuple[str, int],
    log: list[Json],
    *,
    operator: bool,
) -> str:
    host, port = address
    public = name == _PUBLIC
    hosted = config.hosted is not None
    here = public and hosted
    table = _routes(config, rpcs, public=public, operator=operator)
    values: dict[str, Any] = {
        "name": name,
        "host": host,
        "port": port,
        "every_family": host == "::",
        "reuse_port": hosted,
        "hosted": here,
        "terminal": config.hosted if here else router(),
        "access_log": log,
        "transport_socket": _transport_socket(config) if public else None,
        "connection_idle_timeout": f"{config.connection_idle_seconds}s",
        "stream_idle_timeout": f"{config.stream_idle_seconds}s",
        "is_status_200": is_status(200),
        "is_status_413": is_status(413),
        "is_bad_path": has_details("path_normalization_failed"),
        "is_missing_host": has_details("missing_host_header"),
        "is_upgrade": has_details("upgrade_failed"),
        "max_request_bytes": config.max_request_bytes,
        "is_status_429": is_status(429),
        "is_status_503": is_status(503),
        "is_status_504": is_status(504),
        "retry_after": retry_after(config.rate_limit_per_minute, config.stranger_calls_per_minute),
        "rate_limit": rate_limit(config.rate_limit_per_minute, config.stranger_calls_per_minute),
        "head": _fill(
            "head.lua",
            max_stranger_header_bytes=str(MAX_STRANGER_HEADER_BYTES),
            max_authorization_chars=str(MAX_AUTHORIZATION_CHARS),
        ),
        "face": _face(config, rpcs),
        "transcoder": _transcoding(config, rpcs),
        "cors": cors(config.cors_origins),
    }
    filled = {key: json.dumps(value) for key, value in values.items()}
    return _fill("listener.yaml", **filled, routes=_yaml_list(map(json.dumps, table), indent=16))


def _routes(config: EdgeConfig, rpcs: list[Rpc], *, public: bool, operator: bool) -> list[Json]:
    """The routes of one listener, in the order in which Envoy tries them."""
    return routes(
        rpcs,
        sse=_transcoding(config, rpcs, stream_sse_style_delimited=True),
        lines=_transcoding(config, rpcs, stream_newline_delimited=True),
        taking=_transcoding(config, rpcs, _MIB, _MIB),
        admin=operator,
        metrics=config.metrics_port is not None and (not public or _shows_metrics(config)),
        metrics_token="" if config.public_metrics or not public else config.metrics_token,
        hosted=public and config.hosted is not None,
        call_seconds=config.call_seconds,
        stalled_seconds=config.stalled_seconds,
        open_limit=open_rate_limit(config.stranger_calls_per_minute),
    )


def _transcoding(
    config: EdgeConfig, rpcs: list[Rpc], max_request: int = 0, max_response: int = 0, **form: bool
) -> Json:
    """The transcoder of REST calls. 0 takes the limit that the settings name, in bytes."""
    return transcoder(
        rpcs,
        config.descriptor_set,
        max_request=max_request or config.max_request_bytes,
        max_response=max_response or config.max_response_bytes,
        **form,
    )


def _transport_socket(config: EdgeConfig) -> Json | None:
    if config.tls_directory is None:
        return None
    return transport_socket(config.tls_directory, client_certificates=config.client_certificates)


def _face(config: EdgeConfig, rpcs: list[Rpc]) -> str:
    message = f"the body exceeds {config.max_request_bytes} bytes"
    details = render_failure(Exhausted(message, reason="BODY_TOO_LARGE")).details
    return _fill(
        "face.lua",
        **face_tables(rpcs),
        codes=lua({str(code.value): code.name for code in Code}),
        too_large=json.dumps(message),
        too_large_details=json.dumps(base64.b64encode(details).decode().rstrip("=")),
        max_header_bytes=str(MAX_HEADER_BYTES),
        max_request_bytes=str(config.max_request_bytes),
    )


def _shows_metrics(config: EdgeConfig) -> bool:
    return config.public_metrics or bool(config.metrics_token)


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
