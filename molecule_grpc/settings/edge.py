"""The edge: where it listens and whom it lets in from other origins."""

from __future__ import annotations

from dataclasses import dataclass

from molecule_grpc.settings.values import PORT, TEXT, WORDS, setting, whole


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSettings:
    """How the edge is reached.

    Args:
        host: address to listen on.
        port: the one public port, for every protocol.
        operator_port: loopback port for AdminService and /metrics, which the public port then
            refuses; 0 serves them on the public port.
        cors_origins: origins of browsers that may call; `*` admits all, without credentials.
        rate_limit_per_minute: calls a minute of one client address; 0 for no limit.
        external_platform_url: the URL that agents are told; empty for the one a caller used.
    """

    host: str = setting("MOLECULE_HOST", TEXT, "127.0.0.1")
    port: int = setting("PORT", PORT, 8080)
    operator_port: int = setting("MOLECULE_OPERATOR_PORT", whole(0, 65535), 0)
    cors_origins: tuple[str, ...] = setting(
        "CORS_ORIGINS", WORDS, ("http://localhost:3000", "http://localhost:3001")
    )
    rate_limit_per_minute: int = setting("RATE_LIMIT", whole(0), 0)
    external_platform_url: str = setting("EXTERNAL_PLATFORM_URL", TEXT, "")
