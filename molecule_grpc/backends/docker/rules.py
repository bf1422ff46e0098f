"""Decisions of the Docker backend that need no engine: image tags, limits, signals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from molecule_grpc.backends.sizes import SHARES_OF_ONE, TierSize

MOVING_TAGS: Final = frozenset({"latest", "staging", "main", "dev", "edge", "nightly", "rolling"})
_SIGNALLED: Final = 128
_MIB: Final = 1024 * 1024
CPU_PERIOD: Final = 100_000


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
