"""Looks up the addresses of hosts. Lookups that wait for a name server hold no thread."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Hashable, Sequence
from typing import Final, TypeAlias

import aiodns

from molecule_grpc.kernel.budget import Budget
from molecule_grpc.kernel.payer import ORGANIZATION, payer

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

LOOKUP_SECONDS: Final = 5.0
# What a name server gets for its first answer, and how often it is asked.
_TRY_SECONDS = 2.0
_TRIES = 2
# c-ares keeps every answer for as long as the answer says, and has no limit on their number. After
# so many lookups a resolver is replaced: 10,000 answers take 20 MB.
_LOOKUPS_OF_A_RESOLVER = 10_000


class Lookups:
    """Asks /etc/hosts and name servers. Safe to use by any number of tasks at once.

    Args:
        budget: counts the lookups under way, by organisation.
        servers: name servers to ask, `ADDRESS` or `ADDRESS:PORT`; none for the system's.
    """

    def __init__(self, budget: Budget, servers: Sequence[str] = ()) -> None:
        self._budget = budget
        self._servers = list(servers)
        self._resolver: aiodns.DNSResolver | None = None
        self._begun = 0

    async def addresses(
        self, host: str, organization: Hashable | None = None
    ) -> tuple[Address, ...]:
        """The addresses of a host; none when it has none, or no answer came within 5 s.

        Args:
            organization: whose lookup it is; None for the payer of the call.

        Raises:
            Exhausted: RESOURCE_EXHAUSTED: too many lookups are under way; this one did not begin.
        """
        literal = literal_address(host)
        if literal is not None:
            return (literal,)
        who = payer.get()
        if organization is None and who is not None:
            organization = who.organization
        keys = {} if organization is None else {ORGANIZATION: organization}
        with self._budget.use(1, **keys):
            try:
                async with asyncio.timeout(LOOKUP_SECONDS):
                    return await self._ask(host)
            except (aiodns.error.DNSError, UnicodeError, TimeoutError):
                return ()

    async def _ask(self, host: str) -> tuple[Address, ...]:
        name = host if host.isascii() else host.encode("idna").decode()
        # Held until the answer is there: the last lookup of a replaced resolver closes it.
        resolver = self._current()
        found = await resolver.getaddrinfo(name, type=socket.SOCK_STREAM)
        texts = [node.addr[0].decode() for node in found.nodes]
        return tuple(dict.fromkeys(ipaddress.ip_address(text) for text in texts))

    def _current(self) -> aiodns.DNSResolver:
        if self._resolver is None or self._begun >= _LOOKUPS_OF_A_RESOLVER:
            self._resolver = aiodns.DNSResolver(
                self._servers or None, timeout=_TRY_SECONDS, tries=_TRIES
            )
            self._begun = 0
        self._begun += 1
        return self._resolver

    async def close(self) -> None:
        """End every lookup under way without an address."""
        if self._resolver is not None:
            await self._resolver.close()
            self._resolver = None


def literal_address(host: str) -> Address | None:
    """The address that a host is, in any spelling that a socket takes; None for a name."""
    bare = host.removesuffix(".")
    try:
        return ipaddress.ip_address(bare)
    except ValueError:
        pass
    # 127.1, 0x7f000001, 0177.0.0.1: no name ends in a number.
    if bare.rpartition(".")[2][:1].isdigit():
        try:
            return ipaddress.IPv4Address(socket.inet_aton(bare))
        except (OSError, UnicodeError):
            pass
    return None
