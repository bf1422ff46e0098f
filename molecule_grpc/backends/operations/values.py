"""Operations and their ends, as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.backends.contract.workloads import Resource, Started
from molecule_grpc.backends.operations.rules import Kind, Options, State


class Operation(NamedTuple):
    """An operation in a runner's hands.

    Args:
        backend: where the start goes, once that is chosen and the stop before it is over; else ''.
        attempt: 1 for the first runner; greater for one that took the operation over.
        started_at: when the first runner began.
        runs_on, resource_id: where the workspace runs, as its row says, or else its last operation.
    """

    id: UUID
    workspace_id: UUID
    organization_id: UUID
    kind: Kind
    source: str
    backend: str
    attempt: int
    cancel_requested: bool
    options: Options
    started_at: datetime
    runs_on: str
    resource_id: str

    @property
    def resource(self) -> Resource:
        """The workspace's workload, whichever operation started it."""
        return Resource(workspace_id=self.workspace_id, resource_id=self.resource_id)

    @property
    def made(self) -> Resource:
        """What this operation has started."""
        return Resource(workspace_id=self.workspace_id, operation_id=self.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How an operation ends.

    Args:
        reason: a stable name for a failure: a `FailureReason`, or `cancelled`.
        message: a sentence for people, perhaps with the last lines that the agent printed.
        started: what runs now; None for nothing new.
        again_after: seconds until the operation is tried again; None for an end.
        missing: variables for want of which a start failed.
    """

    state: State
    reason: str = ""
    message: str = ""
    started: Started | None = None
    again_after: float | None = None
    missing: tuple[str, ...] = ()


class Past(NamedTuple):
    """An operation as it is shown to people."""

    id: UUID
    workspace_id: UUID
    kind: str
    source: str
    backend: str
    attempt: int
    state: str
    cancel_requested: bool
    resource_id: str
    reason: str
    message: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
