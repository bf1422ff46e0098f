"""A delegation as its source sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from moleculeai.delegation.v1 import delegation_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from molecule_grpc.client.errors import TaskFailed

FINAL = frozenset({"completed", "failed", "stuck"})


@dataclass(frozen=True, slots=True)
class Delegation:
    """Where one handed-over task stands.

    Args:
        status: queued, dispatched, in_progress, completed, failed or stuck; `delegated` when it
            was accepted a moment ago.
        text: the result, once completed.
        error: what went wrong, once failed or stuck.
        failure_reason: cancelled, deadline, agent_error and so on; empty when not failed.
        note: what the target last said of its progress.
        percent: how far the target says it is; None when it has not.
        truncated: whether `text` was cut at 1 MiB.
        known: whether an earlier call with the same idempotency key had made it.
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
        """Whether it has ended."""
        return self.status in FINAL

    def require_text(self) -> str:
        """The result.

        Raises:
            TaskFailed: it has ended without one, or has not ended.
        """
        if self.status != "completed":
            raise TaskFailed(self.error or f"the delegation is {self.status}")
        return self.text

    @classmethod
    def read(cls, message: delegation_pb2.Delegation, *, known: bool = False) -> Self:
        """From GetDelegation's answer."""
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
        """From Delegate's answer."""
        if response.HasField("delegation"):
            return cls.read(response.delegation, known=response.idempotent_hit)
        return cls(
            id=response.delegation_id,
            target_id=response.target_id,
            status=response.status,
            known=response.idempotent_hit,
        )
