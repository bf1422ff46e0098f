"""Which addresses and ports of agents the platform may call."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from molecule_grpc.settings.values import Kind, setting

# Ranges that an operator may open: private ones, and the carrier range, which overlays use.
OPENABLE = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fd00::/8")
)
_MAX_PORT = 65535


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _network(word: str) -> str:
    network = ipaddress.ip_network(word)
    for openable in OPENABLE:
        if network.version == openable.version and network.subnet_of(openable):  # type: ignore[arg-type]
            return str(network)
    raise ValueError


def _port(word: str) -> str:
    first, dash, last = word.partition("-")
    low, high = int(first), int(last if dash else first)
    if not 1 <= low <= high <= _MAX_PORT:
        raise ValueError
    return word


def _name_server(word: str) -> str:
    parts = urlsplit(f"dns://{word}")
    ipaddress.ip_address(parts.hostname or "")
    if parts.port == 0 or parts.netloc != word or "@" in word:
        raise ValueError
    return word


NETWORKS = Kind(
    lambda text: tuple(map(_network, _words(text))),
    "networks such as 10.1.0.0/16 with commas between them, each within "
    + ", ".join(map(str, OPENABLE)),
)
_PORTS = Kind(
    lambda text: tuple(map(_port, _words(text))),
    "ports and ranges such as 443,8000-8999, from 1 to 65535",
)

_NAME_SERVERS = Kind(
    lambda text: tuple(map(_name_server, _words(text))),
    "addresses of name servers such as 10.0.0.2 or [fd00::53]:5353 with commas between them",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressSettings:
    """Where agents may listen, beside public addresses.

    Args:
        networks: private networks that agents may listen in; metadata addresses inside them stay
            refused. Development mode admits all private networks.
        ports: ports that agents may listen at; empty for any.
        name_servers: asked for the addresses of agents' host names, after /etc/hosts; empty for
            those of the system.
    """

    networks: tuple[str, ...] = setting("MOLECULE_AGENT_NETWORKS", NETWORKS, ())
    ports: tuple[str, ...] = setting("MOLECULE_AGENT_PORTS", _PORTS, ())
    name_servers: tuple[str, ...] = setting("MOLECULE_NAME_SERVERS", _NAME_SERVERS, ())

    def allows_port(self, port: int) -> bool:
        """Whether an agent may listen at this port."""
        return not self.ports or any(low <= port <= high for low, high in map(_bounds, self.ports))


def _bounds(word: str) -> tuple[int, int]:
    first, dash, last = word.partition("-")
    return int(first), int(last if dash else first)
