"""The edge: where it listens and whom it lets in from other origins."""

from __future__ import annotations

import contextlib
import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from molecule_grpc.settings.values import (
    OPTIONAL_PATH,
    PORT,
    SHARE,
    SWITCH,
    TEXT,
    WORDS,
    Kind,
    setting,
    whole,
)

_IPV4 = 4
_MIB = 1024 * 1024
# The URL is pasted into shells and configuration files.
_PASTED_URL = re.compile(r"https?://[^\s\"'`\\<>$]+")


def _pasted_url(text: str) -> str:
    if not _PASTED_URL.fullmatch(text):
        raise ValueError(text)
    return text


_URL = Kind(_pasted_url, "a URL of http or https without blanks, quotes and what a shell reads")


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSettings:
    """How the edge is reached.

    Args:
        host: address to listen on.
        port: the one public port, for every protocol.
        tls_cert_file: PEM of the certificate chain that `port` shows; with it, `port` speaks TLS
            alone. A change of the files is served within two seconds.
        tls_key_file: PEM of that certificate's key, without a password.
        tls_client_ca_file: PEM of the authorities of clients: without a certificate of theirs no
            client is served at `port`.
        operator_port: loopback port for AdminService and /metrics; the public port then refuses
            AdminService. 0 serves AdminService on the public port.
        metrics_token: with it, /metrics is served on the public port to whoever shows it as a
            bearer token.
        public_metrics: serves /metrics on the public port to anybody.
        cors_origins: origins of browsers that may call; `*` admits all, without credentials.
        rate_limit_per_minute: calls a minute of one client address; 0 for no limit.
        stranger_calls_per_minute: calls a minute of one client address without a token, and as
            many with an unknown one; 0 for no limit. Development mode has none for the former.
        memory_bytes: memory of the edge from which on it cuts off calls that hold much of it.
        access_log_share: which calls are written to standard output, one line of JSON each: `off`,
            `all`, or a share between both, such as 0.01.
        external_platform_url: the URL that agents are told; empty for the one a caller used.
    """

    host: str = setting("MOLECULE_HOST", TEXT, "127.0.0.1")
    port: int = setting("PORT", PORT, 8080)
    tls_cert_file: Path | None = setting("MOLECULE_TLS_CERT_FILE", OPTIONAL_PATH, None)
    tls_key_file: Path | None = setting("MOLECULE_TLS_KEY_FILE", OPTIONAL_PATH, None)
    tls_client_ca_file: Path | None = setting("MOLECULE_TLS_CLIENT_CA_FILE", OPTIONAL_PATH, None)
    operator_port: int = setting("MOLECULE_OPERATOR_PORT", whole(0, 65535), 0)
    metrics_token: str = setting("MOLECULE_METRICS_TOKEN", TEXT, "", secret=True)
    public_metrics: bool = setting("MOLECULE_PUBLIC_METRICS", SWITCH, False)
    cors_origins: tuple[str, ...] = setting(
        "CORS_ORIGINS", WORDS, ("http://localhost:3000", "http://localhost:3001")
    )
    rate_limit_per_minute: int = setting("RATE_LIMIT", whole(0), 0)
    stranger_calls_per_minute: int = setting("MOLECULE_STRANGER_CALLS_PER_MINUTE", whole(0), 600)
    memory_bytes: int = setting("MOLECULE_EDGE_MEMORY_BYTES", whole(128 * _MIB), 1024 * _MIB)
    access_log_share: float = setting("MOLECULE_ACCESS_LOG", SHARE, 0.0)
    external_platform_url: str = setting("EXTERNAL_PLATFORM_URL", _URL, "")

    @property
    def tls(self) -> bool:
        """Whether the public port speaks TLS."""
        return self.tls_cert_file is not None

    @property
    def scheme(self) -> str:
        """`https` or `http`."""
        return "https" if self.tls else "http"

    @property
    def local_host(self) -> str:
        """Where this machine reaches the edge: an address of all interfaces means loopback."""
        with contextlib.suppress(ValueError):  # a name
            address = ipaddress.ip_address(self.host)
            if address.is_unspecified:
                return "127.0.0.1" if address.version == _IPV4 else "::1"
        return self.host

    @property
    def local_url(self) -> str:
        """The URL of the edge for this machine."""
        host = self.local_host
        return f"{self.scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches the public port."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a name or an address, without port or brackets, is this machine's own."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
