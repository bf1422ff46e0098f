"""Which hosts a workspace may reach: `open`, `none`, or a list of hosts."""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import dataclass
from typing import Final, NamedTuple, Self

from molecule_grpc.kernel.errors import Invalid

OPEN: Final = "open"
NONE: Final = "none"
MAX_HOSTS: Final = 100
# What a host without a port admits: HTTP and HTTPS.
WEB_PORTS: Final = (80, 443)

_MAX_NAME_BYTES: Final = 253
_MAX_PORT: Final = 65535
_WILDCARD: Final = "*."
# The last label has a letter in front: what ends in a number is an address in some spelling.
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"(?:{_LABEL}\.)*[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])?")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")


class Target(NamedTuple):
    """What somebody wants to reach.

    Args:
        host: a name in lower case without a dot at its end, or an address in its usual spelling.
    """

    host: str
    port: int


def read_target(authority: str, default_port: int | None = None) -> Target:
    """Read `host:port`, the host of a name, an IPv4 address or an IPv6 address in brackets.

    One dot after a name is dropped. Other spellings of addresses (2130706433, 0x7f.1) are refused.

    Args:
        default_port: where no port is named; None demands one.

    Raises:
        ValueError: the text is anything else.
    """
    host, port = _split(authority)
    if port is None:
        if default_port is None:
            raise ValueError("names no port")
        return Target(_host(host), default_port)
    return Target(_host(host), _port(port))


@dataclass(frozen=True, slots=True)
class HostList:
    """The hosts that a workspace may reach. None is for every public one, `()` for none at all.

    Args:
        hosts: `host`, `host:port`, `*.host` or `*.host:port`. A host without a port admits 80 and
            443; `*.` stands for any labels in front of the host, and not for the host itself.
    """

    hosts: tuple[str, ...] | None = None

    @classmethod
    def read(cls, given: object, field: str = "egress") -> Self:
        """A list as people write it: `open`, `none`, or up to 100 hosts, each 1 to 262 characters.

        Args:
            field: that a refusal names.

        Raises:
            Invalid: it is none of these.
        """
        if given == OPEN:
            return cls(None)
        if given == NONE:
            return cls(())
        if not isinstance(given, list):
            raise Invalid(f"{field} must be open, none or a list of hosts", field=field)
        if len(given) > MAX_HOSTS:
            raise Invalid(f"{field} must not have more than {MAX_HOSTS} hosts", field=field)
        hosts = [_entry(each, f"{field}[{number}]") for number, each in enumerate(given)]
        return cls(tuple(dict.fromkeys(hosts)))

    @classmethod
    def stored(cls, text: str | None) -> Self:
        """The list of a row: JSON, or NULL where every host may be reached."""
        return cls(None if text is None else tuple(json.loads(text)))

    @property
    def is_open(self) -> bool:
        """Whether the workspace is held to no list."""
        return self.hosts is None

    @property
    def as_stored(self) -> str | None:
        """For a row."""
        return None if self.hosts is None else json.dumps(self.hosts)

    @property
    def as_given(self) -> str | list[str]:
        """As people write it."""
        if self.hosts is None:
            return OPEN
        return list(self.hosts) or NONE

    def admits(self, target: Target) -> bool:
        """Whether the workspace may reach a host at a port, as far as the list says."""
        return self.hosts is None or any(_admits(each, target) for each in self.hosts)


ALL_HOSTS: Final = HostList()


def _entry(given: object, field: str) -> str:
    if not isinstance(given, str):
        raise Invalid(f"{field} must be a string", field=field)
    text = given.strip()
    wildcard = _WILDCARD if text.startswith(_WILDCARD) else ""
    try:
        host, port = _split(text.removeprefix(wildcard))
        host = _host(host)
        if wildcard and _is_address(host):
            raise ValueError("an address has no subdomains")
        number = None if port is None else _port(port)
    except ValueError as error:
        raise Invalid(
            f"{field} must be host, host:port or *.host in ASCII ({error})", field=field
        ) from None
    shown = f"[{host}]" if ":" in host else host
    return f"{wildcard}{shown}" + ("" if number is None else f":{number}")


def _admits(entry: str, target: Target) -> bool:
    wildcard = entry.startswith(_WILDCARD)
    host, port = _split(entry.removeprefix(_WILDCARD) if wildcard else entry)
    ports = WEB_PORTS if port is None else (int(port),)
    if target.port not in ports:
        return False
    bare = host.strip("[]")
    # The dot belongs to the comparison: `*.a.example` must not admit `evila.example`.
    return target.host.endswith(f".{bare}") if wildcard else target.host == bare


def _split(text: str) -> tuple[str, str | None]:
    """Host, still in its brackets, and port."""
    if text.startswith("["):
        inside, bracket, rest = text.partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("the brackets are not closed")
        return inside + bracket, rest[1:] if rest else None
    host, colon, port = text.partition(":")
    return host, port if colon else None


def _host(text: str) -> str:
    if text.startswith("["):
        if "%" in text:
            raise ValueError("an address must not name an interface")
        return str(ipaddress.IPv6Address(text[1:-1]))
    name = text.lower().removesuffix(".")
    if len(name) <= _MAX_NAME_BYTES and name.isascii() and _NAME.fullmatch(name):
        return name
    try:
        return str(ipaddress.IPv4Address(name))
    except ValueError:
        raise ValueError("the host is malformed") from None


def _port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > _MAX_PORT:
        raise ValueError("the port is not a number from 1 to 65535")
    return int(text)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
