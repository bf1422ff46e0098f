"""What goes into a runtime's configuration, and how an edit of a file is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

SERVER: Final = "molecule"
# Seconds: the longest wait for a message, and some more.
TOOL_SECONDS: Final = 330


class CannotEdit(Exception):
    """The file is not one that can be changed without loss; the message says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Who the agent is, and where the platform is."""

    workspace_id: str
    platform_url: str
    mcp_endpoint: str
    token: str = field(repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """For every call of the tools."""
        return {"Authorization": f"Bearer {self.token}"}
