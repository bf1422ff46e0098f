"""Which runtimes there are. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

# With images of their own.
KNOWN_RUNTIMES: Final = (
    "autogen",
    "claude-code",
    "crewai",
    "deepagents",
    "gemini-cli",
    "hermes",
    "langgraph",
    "openclaw",
)
# Stands for all others in the configuration, and is no runtime.
_ALL: Final = "*"


def runtimes(configured: Iterable[str], pinned: Iterable[str]) -> list[str]:
    """All runtimes that have an image, by name."""
    return sorted({*KNOWN_RUNTIMES, *configured, *pinned} - {_ALL})
