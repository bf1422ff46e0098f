"""How much memory and processor time a workload may use, by its tier."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

# Processors come in shares of this many.
SHARES_OF_ONE: Final = 1024


class TierSize(NamedTuple):
    """0 for no limit."""

    memory_mb: int
    cpu_shares: int


# Tier 1 is small by what it may do, not by size.
TIER_SIZES: Final = {
    1: TierSize(0, 0),
    2: TierSize(512, 1024),
    3: TierSize(2048, 2048),
    4: TierSize(4096, 4096),
}


def size_of(tier: int, own: Mapping[int, TierSize], memory_mb: int, cpu_shares: int) -> TierSize:
    """The limits of a workload: its own, else the tier's settings, else the tier's default.

    An unknown tier counts as 2.
    """
    tier = tier if tier in TIER_SIZES else 2
    set_, default = own.get(tier, TierSize(0, 0)), TIER_SIZES[tier]
    return TierSize(
        memory_mb or set_.memory_mb or default.memory_mb,
        cpu_shares or set_.cpu_shares or default.cpu_shares,
    )
