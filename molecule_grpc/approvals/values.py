"""Requests for approvals, as values."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

# Who decides a request that nobody decides in time.
TIMEOUT: Final = "timeout"


class Status(enum.StrEnum):
    """Where a request stands. The values are on the wire."""

    PENDING = "pending"
    APPROVED = "approved"
    DENIED = "denied"


@dataclass(frozen=True, slots=True)
class Asked:
    """What an agent asks for.

    Args:
        context: JSON text; None for none.
        seconds: until the request is denied; 0 for the default.
    """

    action: str
    reason: str = ""
    task_id: str = ""
    context: str | None = None
    seconds: int = 0


class Approval(NamedTuple):
    """A request with the name of its workspace. `context` is JSON text."""

    id: UUID
    workspace_id: UUID
    workspace_name: str
    action: str
    reason: str
    task_id: str
    context: str | None
    status: Status
    decided_by: str
    decided_at: datetime | None
    expires_at: datetime
    created_at: datetime


class Decided(NamedTuple):
    """A decision that an agent is to be told."""

    id: UUID
    workspace_id: UUID
    action: str
    task_id: str
    status: Status
    decided_by: str
    old: bool
