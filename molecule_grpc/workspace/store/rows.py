"""Rows of workspaces as values: as stored, to be inserted, and what to change of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.host_list import ALL_HOSTS, HostList
from molecule_grpc.workspace.status import INITIAL, Status


class WorkspaceRow(NamedTuple):
    """A workspace with its place on the canvas; its columns are selected in the fields' order.

    Args:
        agent_card: JSON text.
        budget_limit: US cents a month.
        monthly_spend: US cents, as reported.
    """

    id: UUID
    organization_id: UUID
    parent_id: UUID | None
    name: str
    role: str | None
    tier: int
    status: str
    runtime: str
    agent_card: str | None
    url: str
    mode_in_force: str
    last_heartbeat_at: datetime | None
    last_outbound_at: datetime | None
    last_error_rate: float
    last_sample_error: str | None
    active_tasks: int
    max_concurrent_tasks: int
    uptime_seconds: int
    current_task: str
    workspace_dir: str | None
    budget_limit: int | None
    monthly_spend: int
    created_at: datetime
    updated_at: datetime
    x: float
    y: float
    collapsed: bool
    hibernation_idle_minutes: int | None


class Held(NamedTuple):
    """A locked workspace, as far as changing it needs."""

    id: UUID
    organization_id: UUID
    runtime: str
    workspace_dir: str | None
    egress: HostList


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceDraft:
    """A workspace to insert.

    Args:
        delivery_mode: as stated; None where nobody has.

    Raises:
        ValueError: no workspace begins with this status, or a failed one gives no reason.
    """

    id: UUID
    organization_id: UUID
    name: str
    tier: int
    status: Status
    runtime: str
    parent_id: UUID | None = None
    role: str | None = None
    url: str = ""
    delivery_mode: str | None = None
    max_concurrent_tasks: int = 1
    budget_limit: int | None = None
    last_sample_error: str | None = None
    inbound_secret: str | None = None
    hibernation_idle_minutes: int | None = None
    template: str = ""
    model: str = ""
    workspace_dir: str = ""
    workspace_access: str = "none"
    egress: HostList = ALL_HOSTS

    def __post_init__(self) -> None:
        if self.status not in INITIAL:
            raise ValueError(f"no workspace begins as {self.status}")
        if self.status is Status.FAILED and not self.last_sample_error:
            raise ValueError("a failure needs a reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What to change of a workspace. Fields named in `given` are written even when None."""

    name: str | None = None
    role: str | None = None
    tier: int | None = None
    runtime: str | None = None
    parent_id: UUID | None = None
    workspace_dir: str | None = None
    hibernation_idle_minutes: int | None = None
    egress: HostList = ALL_HOSTS
    given: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Place:
    """A place on the canvas. None leaves what is stored."""

    x: float | None = None
    y: float | None = None
    collapsed: bool | None = None

    @property
    def given(self) -> bool:
        """Whether there is anything to write."""
        return self != Place()
