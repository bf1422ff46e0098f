"""Decisions of the Docker backend that need no engine: image tags, limits, signals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

MOVING_TAGS: Final = frozenset({"latest", "staging", "main", "dev", "edge", "nightly", "rolling"})
_SIGNALLED: Final = 128
_MIB: Final = 1024 * 1024
# Processors come in shares of this many.
SHARES_OF_ONE: Final = 1024
CPU_PERIOD: Final = 100_000


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


def image_tag_is_moving(reference: str) -> bool:
    """Whether the reference may name another image tomorrow, so that a start must ask for it again.

    A pinned tag taken for a moving one costs a question; the opposite would freeze workspaces on an
    old image.
    """
    if "@sha256:" in reference:
        return False
    _, colon, tag = reference.rpartition(":")
    # A colon before a slash separates a port.
    if not colon or "/" in tag:
        return True
    return tag in MOVING_TAGS


def image_of(runtime: str, images: Mapping[str, str], template: str, default_runtime: str) -> str:
    """The image of a runtime that no pin and no template names."""
    runtime = runtime or default_runtime
    found = images.get(runtime) or images.get("*")
    return found or template.replace("{runtime}", runtime)


def repository_of(reference: str) -> str:
    """The name without tag and digest."""
    name = reference.partition("@")[0]
    before, colon, tag = name.rpartition(":")
    return before if colon and "/" not in tag else name


def pinned(reference: str, digest: str) -> str:
    """The reference of one image, whatever the tag of `reference` means."""
    return f"{repository_of(reference)}@{digest}"


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


def memory_bytes(size: TierSize) -> int:
    """For the engine."""
    return size.memory_mb * _MIB


def cpu_quota(size: TierSize) -> int:
    """Microseconds of processor time in each period of `CPU_PERIOD`; 0 for no limit.

    A number of processors would be refused where the machine has fewer.
    """
    return size.cpu_shares * CPU_PERIOD // SHARES_OF_ONE


def signal_of(exit_code: int) -> int | None:
    """The signal that ended a process; None if it ended by itself."""
    return exit_code - _SIGNALLED if _SIGNALLED < exit_code < _SIGNALLED + 65 else None
