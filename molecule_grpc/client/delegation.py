"""A delegation, from the point of view of its source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from moleculeai.delegation.v1 import delegation_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from molecule_grpc.client.errors import TaskFailed

FINAL = frozenset({"completed", "failed", "stuck"})


@dataclass(frozen=True, slots=True)
class Delegation:
    """The state of a task that was handed over.

    Args:
        status: queued, dispatched, in_progress, completed, failed or stuck; `delegated` for a
            delegation that was accepted by this very call.
        text: the result, once completed; at most 1 MiB.
        error: what went wrong, once failed or stuck.
        failure_reason: cancelled, deadline, agent_error and so on; empty unless failed.
        note: the target's last progress note.
        percent: the target's last progress, 0 to 100; None when the target gave none.
        truncated: whether `text` was cut at 1 MiB.
        known: whether an earlier call with the same idempotency key had made the delegation.
    """

    id: str
    target_id: str
    status: str
    text: str = ""
    error: str = ""
    failure_reason: str = ""
    note: str = ""
    percent: int | None = None
    truncated: bool = False
    known: bool = False

    @property
    def final(self) -> bool:
        """Whether the delegation has ended: completed, failed or stuck."""
        return self.status in FINAL

    def require_text(self) -> str:
        """The result.

        Raises:
            TaskFailed: the delegation failed, is stuck, or has not ended.
        """
        if self.status != "completed":
            raise TaskFailed(self.error or f"the delegation is {self.status}")
        return self.text

    @classmethod
    def read(cls, message: delegation_pb2.Delegation, *, known: bool = False) -> Self:
        """A delegation from GetDelegation's answer."""
        reason = delegation_pb2.FailureReason.Name(message.failure_reason)
        return cls(
            id=message.delegation_id,
            target_id=message.target_id,
            status=delegation_pb2.Delegation.Status.Name(message.status),
            text=message.result,
            error=message.error,
            failure_reason="" if message.failure_reason == 0 else reason,
            note=message.progress_note,
            percent=message.progress_percent if message.HasField("progress_percent") else None,
            truncated=message.truncated,
            known=known,
        )

    @classmethod
    def accepted(cls, response: pb.DelegateResponse) -> Self:
        """A delegation from Delegate's answer."""
        if response.HasField("delegation"):
            return cls.read(response.delegation, known=response.idempotent_hit)
        return cls(
            id=response.delegation_id,
            target_id=response.target_id,
            status=response.status,
            known=response.idempotent_hit,
        )
