"""Which addresses the platform may call: one rule for register, dispatch and upload."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeAlias
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from molecule_grpc.kernel.errors import Invalid
from molecule_grpc.kernel.holding import require_no_connection
from molecule_grpc.lookups import Address, Lookups
from molecule_grpc.settings.deployment import DeploymentSettings
from molecule_grpc.settings.egress import EgressSettings

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_PORTS: Final = {"http": 80, "https": 443}
_FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}


def _networks(*texts: str) -> tuple[_Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


# Networks are searched from top to bottom; an address in none of them is public.
# Services of clouds that hand out credentials or configuration: refused whatever is allowed.
_METADATA: Final = _networks(
    "169.254.0.0/16",  # link-local: metadata of most clouds
    "fe80::/10",
    "fd00:ec2::/32",  # AWS: metadata, DNS, time
    "fd20:ce::/32",  # Google Cloud
    "168.63.129.16/32",  # Azure
    "100.100.100.200/32",  # Alibaba Cloud
    "192.0.0.192/32",  # Oracle Cloud
)
_LOOPBACK: Final = _networks("127.0.0.0/8", "::1/128")
_PRIVATE: Final = _networks("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fd00::/8")
_NEVER: Final = _networks(
    "0.0.0.0/8",  # this network; Linux delivers it to the local host
    "100.64.0.0/10",  # carrier NAT
    "192.0.0.0/24",  # protocol assignments
    "192.0.2.0/24",  # documentation, this and the next two
    "198.51.100.0/24",
    "203.0.113.0/24",
    "198.18.0.0/15",  # benchmarking
    "224.0.0.0/4",  # multicast
    "240.0.0.0/4",  # reserved, broadcast
    "::/128",
    "64:ff9b:1::/48",  # NAT64 of a local operator
    "100::/64",  # discard
    "2001::/32",  # Teredo
    "2001:db8::/32",  # documentation
    "3fff::/20",
    "fc00::/8",
    "fec0::/10",  # site-local
    "ff00::/8",  # multicast
)
# IPv6 ranges that carry an IPv4 address, and how many bits lie behind it.
_CARRIERS: Final = (
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),
    (ipaddress.IPv6Network("::ffff:0:0:0/96"), 0),  # translated by a stateless gateway
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),
    (ipaddress.IPv6Network("2002::/16"), 80),
    (ipaddress.IPv6Network("::/96"), 0),
)


def networks(texts: Iterable[str]) -> tuple[_Network, ...]:
    """Networks as settings name them."""
    return _networks(*texts)


@dataclass(frozen=True, slots=True)
class EgressRules:
    """Where the platform may connect to, beside public addresses.

    Args:
        networks: private networks that may be called.
        local: whether this machine and every private network may be called: development only.
        settings: holds the ports that may be called.
    """

    networks: tuple[_Network, ...] = ()
    local: bool = False
    settings: EgressSettings = field(default_factory=EgressSettings)

    @classmethod
    def of(cls, deployment: DeploymentSettings, settings: EgressSettings) -> Self:
        """The rules that the settings ask for."""
        return cls(networks(settings.networks), deployment.development, settings)


@dataclass(frozen=True, slots=True)
class CheckedUrl:
    """A URL that may be called, at these addresses and no others.

    Connect to one of `addresses` with `host` in SNI and the Host header, and follow no redirect.
    """

    url: str
    scheme: str
    host: str
    port: int
    addresses: tuple[Address, ...]


class Unresolvable(Invalid):
    """The host of a URL has no address now. It may have one later."""


def check_address(ip: Address | str, rules: EgressRules) -> bool:
    """Whether the platform may connect to an address. IPv4 inside IPv6 counts as IPv4."""
    address = ipaddress.ip_address(ip) if isinstance(ip, str) else ip
    if _within(address, _METADATA):
        return False
    if _within(address, _LOOPBACK):
        return rules.local
    if _within(address, rules.networks):
        return True
    if _within(address, _PRIVATE):
        return rules.local
    if _within(address, _NEVER):
        return False
    inside = carried(address)
    return inside is None or check_address(inside, rules)


def check_url_syntax(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL that an agent may listen at.

    Raises:
        Invalid: URL_NOT_ALLOWED: not http or https, no host, user-info, a query or a fragment, or
            malformed.
    """
    if "?" in url or "#" in url:
        # What the platform appends would become part of the query: the agent would be asked for
        # another path than the one that was meant.
        raise _refused("url must not have a query or a fragment")
    if any(character <= " " or character in '\\\x7f"<>^`{|}' for character in url):
        raise _refused("url must not contain spaces, control characters or backslashes")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _refused("url is malformed") from None
    if parts.scheme not in _PORTS:
        raise _refused("url must start with http:// or https://")
    if not host:
        raise _refused("url must name a host")
    if "@" in parts.netloc:
        raise _refused("url must not carry a user name or password")
    if port == 0:
        raise _refused("url must not name port 0")
    return parts.scheme, host, port or _PORTS[parts.scheme]


class Egress:
    """Checks URLs before anything is sent there. Safe to use by any number of tasks at once.

    Args:
        rules: which addresses may be called.
        lookups: finds the addresses of hosts.
    """

    def __init__(self, rules: EgressRules, lookups: Lookups) -> None:
        self.rules = rules
        self.lookups = lookups

    async def check(
        self,
        url: str,
        *,
        organization: Hashable | None = None,
        localhost_by_name: bool = False,
        engine_url: bool = False,
    ) -> CheckedUrl:
        """Resolve the host of a URL once, and check every answer.

        Args:
            organization: whose budget of lookups is used; None for that of the call's payer.
            localhost_by_name: let the name `localhost` pass whatever it resolves to. For
                registration only: the address is checked again before anything is sent there.
            engine_url: the URL comes from the engine that runs the agent, not from the agent: an
                address of this machine or of a private network is what it names.

        Raises:
            Unresolvable: URL_NOT_ALLOWED: no address within 5 s.
            Invalid: URL_NOT_ALLOWED: malformed, or an address or a port that may not be called.
            Exhausted: RESOURCE_EXHAUSTED: too many lookups are under way; nothing is known.
        """
        scheme, host, port = check_url_syntax(url)
        if engine_url:
            return CheckedUrl(url, scheme, host, port, (ipaddress.ip_address(host),))
        if not self.rules.settings.allows_port(port):
            raise _refused("url names a port that the platform must not call")
        require_no_connection("a name server")
        addresses = await self.lookups.addresses(host, organization)
        if not addresses:
            raise Unresolvable(
                "the host of the url cannot be resolved", field="url", reason="URL_NOT_ALLOWED"
            )
        if not (localhost_by_name and host == "localhost"):
            require_allowed(addresses, self.rules)
        return CheckedUrl(url, scheme, host, port, addresses)


def require_allowed(addresses: Iterable[Address], rules: EgressRules) -> None:
    """Raise unless every address may be called.

    Raises:
        Invalid: URL_NOT_ALLOWED.
    """
    if not all(check_address(address, rules) for address in addresses):
        raise _refused("url points to an address that the platform must not call")


def connector(checked: CheckedUrl) -> aiohttp.TCPConnector:
    """Connects to the checked addresses and nowhere else, whatever name it is asked for.

    Each connection is a new one: one that was kept may be closed by the agent just when a message
    is sent on it, and then nobody knows whether it arrived.

    Raises:
        RuntimeError: the running task holds a database connection.
    """
    require_no_connection("an agent")

    def open_socket(info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _, address = info
        if ipaddress.ip_address(address[0]) not in checked.addresses:
            raise PermissionError("the address was not checked")
        return socket.socket(family, kind, protocol)

    return aiohttp.TCPConnector(
        resolver=_Pinned(checked),
        socket_factory=open_socket,
        use_dns_cache=False,
        force_close=True,
        limit=0,
    )


class _Pinned(AbstractResolver):
    def __init__(self, checked: CheckedUrl) -> None:
        self._checked = checked

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=_FAMILIES[address.version],
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._checked.addresses
            if family in (socket.AF_UNSPEC, _FAMILIES[address.version])
        ]

    async def close(self) -> None:
        """Holds nothing."""


def _within(address: Address, networks: Iterable[_Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def carried(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to; None for any other address."""
    if isinstance(address, ipaddress.IPv6Address):
        for network, bits_behind in _CARRIERS:
            if address in network:
                return ipaddress.IPv4Address(int(address) >> bits_behind & 0xFFFF_FFFF)
    return None


def _refused(message: str) -> Invalid:
    return Invalid(message, field="url", reason="URL_NOT_ALLOWED")
