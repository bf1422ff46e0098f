"""How often one client address may call without a token that is known."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from prometheus_client import Counter

from molecule_grpc.kernel.errors import Exhausted

_REFUSED = Counter(
    "molecule_grpc_strangers_refused_total",
    "Calls refused because their address had sent too many unknown tokens.",
)
_MAX_ADDRESSES = 10_000
_IPV6_NETWORK_BITS = 64


class StrangerLimit:
    """Counts tokens that nobody knows, by client address.

    An address has a minute's worth at once, and gets the same each minute. A network of 64 bits
    counts as one IPv6 address: that is what one customer of a provider has.

    Args:
        per_minute: unknown tokens of one address; 0 for no limit.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        # What an address has left, and when that was so; the address used last is at the end.
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def charge(self, address: str) -> None:
        """Count a call whose token is not known yet.

        Raises:
            Exhausted: RESOURCE_EXHAUSTED: the address has sent too many; nothing is counted.
        """
        if not self._per_minute or not address:
            return
        left = self._now(_network(address))
        if left < 1:
            _REFUSED.inc()
            raise Exhausted(
                "too many calls without a valid token from your address",
                metadata={"limit": str(self._per_minute), "of": "address"},
                retry_after=math.ceil(60 / self._per_minute),
            )
        self._set(_network(address), left - 1)

    def refund(self, address: str) -> None:
        """The token of a call that was charged is a good one, or could not be looked up."""
        if self._per_minute and address:
            network = _network(address)
            self._set(network, self._now(network) + 1)

    def _now(self, network: str) -> float:
        most = float(self._per_minute)
        left, at = self._left.get(network, (most, 0.0))
        return min(most, left + (self._clock() - at) * most / 60)

    def _set(self, network: str, left: float) -> None:
        self._left[network] = (min(left, float(self._per_minute)), self._clock())
        self._left.move_to_end(network)
        if len(self._left) > _MAX_ADDRESSES:
            self._left.popitem(last=False)


def client_address(metadata: Mapping[str, str]) -> str:
    """The address that the edge saw; empty without an edge."""
    # The edge appends its peer's address; a client may have invented the addresses before.
    return metadata.get("x-forwarded-for", "").rpartition(",")[2].strip()


def _network(address: str) -> str:
    if ":" not in address:
        return address
    try:
        number = int(ipaddress.IPv6Address(address))
    except ValueError:
        return address
    return f"{number >> (128 - _IPV6_NETWORK_BITS):x}::/{_IPV6_NETWORK_BITS}"
