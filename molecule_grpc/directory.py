"""What whoever deals with a workspace may know of it."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class WorkspaceInfo:
    """A workspace as it is now.

    Args:
        delivery_mode: the one in force.
        idle_timeout: seconds of silence after which its agent is given up; None for the default.
    """

    id: UUID
    organization_id: UUID
    name: str
    role: str
    status: str
    url: str
    delivery_mode: str
    runtime: str
    idle_timeout: float | None = None
