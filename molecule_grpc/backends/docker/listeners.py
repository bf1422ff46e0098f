"""What the gateway's Envoy listens at: the platform for containers, and the proxy for closed ones.

No I/O. Both listeners of a closed network take connections from this network alone, so that no
container of another organisation uses them up, or shows a password there that it has found.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Final

from molecule_grpc.backends.docker.networks import Network
from molecule_grpc.settings.docker import DockerSettings

Json = dict[str, Any]

_TYPE: Final = "type.googleapis.com/envoy."
_HTTP: Final = _TYPE + "extensions.filters.http."
_NETWORK: Final = _TYPE + "extensions.filters.network."
_LUA: Final = "envoy.filters.http.lua"
# What a connection may have in each direction that nobody has read.
_BUFFER_BYTES: Final = 64 * 1024
# Requests of one organisation in a second, and at once.
_PER_SECOND, _BURST = 100, 200
# A tunnel is cut after an hour, so that no list is outlived by more than that.
_TUNNEL_SECONDS: Final = 3600
_HOP_BY_HOP: Final = (
    "proxy-authorization", "proxy-connection", "x-forwarded-proto", "x-envoy-external-address",
)  # fmt: skip


def listeners(networks: list[Network], settings: DockerSettings, port: int, lua: str) -> list[Json]:
    """All listeners.

    Args:
        port: of the platform, on every gateway.
        lua: asks for each decision.
    """
    made: list[Json] = []
    for network in sorted(networks):
        if network.gateway:
            made.append(_platform(network, port))
        if network.gateway and network.internal and network.organization_id is not None:
            made.append(_proxy(network, settings, lua))
    return made


def _platform(network: Network, port: int) -> Json:
    forward = {
        "@type": _NETWORK + "tcp_proxy.v3.TcpProxy",
        "stat_prefix": "gateway",
        "cluster": "edge",
        # Streams of inboxes are silent for as long as nothing comes.
        "idle_timeout": "0s",
    }
    filters = [{"name": "envoy.filters.network.tcp_proxy", "typed_config": forward}]
    return _listener(f"gateway-{network.gateway}", network, port, filters)


def _proxy(network: Network, settings: DockerSettings, lua: str) -> Json:
    limit = {
        "@type": _NETWORK + "connection_limit.v3.ConnectionLimit",
        "stat_prefix": "proxy",
        "max_connections": settings.proxy_connections,
    }
    filters = [
        {"name": "envoy.filters.network.connection_limit", "typed_config": limit},
        {
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": _manager(network, lua),
        },
    ]
    made = _listener(f"proxy-{network.gateway}", network, settings.proxy_port, filters)
    return made | {"per_connection_buffer_limit_bytes": _BUFFER_BYTES}


def _listener(name: str, network: Network, port: int, filters: list[Json]) -> Json:
    chain: Json = {"filters": filters}
    if network.internal:
        subnet = ipaddress.ip_network(network.subnet)
        prefix = {"address_prefix": str(subnet.network_address), "prefix_len": subnet.prefixlen}
        chain["filter_chain_match"] = {"source_prefix_ranges": [prefix]}
    return {
        "@type": _TYPE + "config.listener.v3.Listener",
        "name": name,
        "address": {"socket_address": {"address": network.gateway, "port_value": port}},
        # The network may be there a moment later, and comes back after a restart of the engine.
        "freebind": True,
        "filter_chains": [chain],
    }


def _manager(network: Network, lua: str) -> Json:
    return {
        "@type": _NETWORK + "http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "proxy",
        "codec_type": "HTTP1",
        # What the workspace sends is handed on as it is, and nothing is told of the network inside.
        "use_remote_address": True,
        "skip_xff_append": True,
        "generate_request_id": False,
        "server_header_transformation": "PASS_THROUGH",
        "normalize_path": False,
        # A connection that dawdles: 10 s for the head of a request, 60 s between two of them, 15
        # minutes of silence within one.
        "request_headers_timeout": "10s",
        "common_http_protocol_options": {"idle_timeout": "60s", "max_headers_count": 100},
        "stream_idle_timeout": "900s",
        "max_request_headers_kb": 60,
        # Python before 3.12 asks for tunnels in HTTP/1.0.
        "http_protocol_options": {"accept_http_10": True},
        "upgrade_configs": [{"upgrade_type": "CONNECT"}],
        "local_reply_config": {"body_format": {"json_format": {"error": "%LOCAL_REPLY_BODY%"}}},
        "http_filters": [_rate_limit(), _asking(lua), _router()],
        "route_config": {"virtual_hosts": [_hosts(network)]},
    }


def _hosts(network: Network) -> Json:
    # As route metadata: the worker compares it with the organisation of whoever shows a password.
    whose = {"filter_metadata": {_LUA: {"organization": str(network.organization_id)}}}
    tunnel = {
        "cluster": "origin",
        "timeout": "0s",
        "max_stream_duration": {"max_stream_duration": f"{_TUNNEL_SECONDS}s"},
        "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}],
    }
    plain = {"cluster": "origin", "timeout": "0s"}
    return {
        "name": "all",
        "domains": ["*"],
        "request_headers_to_remove": list(_HOP_BY_HOP),
        "routes": [
            {"match": {"connect_matcher": {}}, "route": tunnel, "metadata": whose},
            {"match": {"prefix": "/"}, "route": plain, "metadata": whose},
        ],
    }


def _rate_limit() -> Json:
    bucket = {"max_tokens": _BURST, "tokens_per_fill": _PER_SECOND, "fill_interval": "1s"}
    every = {"numerator": 100, "denominator": "HUNDRED"}
    return {
        "name": "envoy.filters.http.local_ratelimit",
        "typed_config": {
            "@type": _HTTP + "local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": "proxy",
            "token_bucket": bucket,
            "filter_enabled": {"default_value": every},
            "filter_enforced": {"default_value": every},
        },
    }


def _asking(lua: str) -> Json:
    config = {"@type": _HTTP + "lua.v3.Lua", "default_source_code": {"inline_string": lua}}
    return {"name": _LUA, "typed_config": config}


def _router() -> Json:
    config = {"@type": _HTTP + "router.v3.Router", "suppress_envoy_headers": True}
    return {"name": "envoy.filters.http.router", "typed_config": config}
