"""Why a memory is not stored, changed or shown."""

from __future__ import annotations

from uuid import UUID

from molecule_grpc.kernel.errors import (
    Aborted,
    AlreadyExists,
    Denied,
    Invalid,
    MoleculeError,
    NotFound,
    Unavailable,
)
from molecule_grpc.kernel.payer import ORGANIZATION
from molecule_grpc.memory.namespaces import workspace_missing
from molecule_grpc.memory.store.commits import Item, Stored, Verdict
from molecule_grpc.memory.store.usage import Limits
from molecule_grpc.quotas import Quota
from molecule_grpc.settings.memory import MemorySettings

NAMESPACE = "namespace"
_EXPIRED_SECONDS = 60.0


class MemoryQuotas:
    """How much is kept, and what is read beyond that."""

    def __init__(self, settings: MemorySettings) -> None:
        self.organization_memories = Quota("memories", ORGANIZATION, settings.organization_memories)
        self.organization_bytes = Quota(
            "bytes of memories", ORGANIZATION, settings.organization_bytes
        )
        self.namespace_memories = Quota("memories", NAMESPACE, settings.namespace_memories)
        self.namespace_bytes = Quota("bytes of memories", NAMESPACE, settings.namespace_bytes)
        self.limits = Limits(
            self.namespace_memories.bound,
            self.namespace_bytes.bound,
            self.organization_memories.bound,
            self.organization_bytes.bound,
        )

    def refusal(self, wanted: Item, stored: Stored) -> MoleculeError | None:
        """The error of a quota that has no room; None for another verdict."""
        namespace, organization = wanted.namespace, stored.organization_id
        match stored.verdict:
            case Verdict.NAMESPACE_MEMORIES:
                return self.namespace_memories.refusal(namespace)
            case Verdict.NAMESPACE_BYTES:
                return self.namespace_bytes.refusal(namespace)
            case Verdict.ORGANIZATION_MEMORIES:
                return self.organization_memories.refusal(organization)
            case Verdict.ORGANIZATION_BYTES:
                return self.organization_bytes.refusal(organization)
        return None


def refusal(wanted: Item, stored: Stored, quotas: MemoryQuotas) -> MoleculeError:
    """The error of an item that was not stored."""
    match stored.verdict:
        case Verdict.GONE:
            return workspace_missing()
        case Verdict.DENIED:
            return not_writable(wanted.author_id, wanted.namespace)
        case Verdict.TAKEN:
            return AlreadyExists(
                "a memory of another namespace has this id", reason="MEMORY_ID_TAKEN"
            )
        case Verdict.OVER:
            return Invalid("valid_to must be after valid_from", field="valid_to")
        case Verdict.EXPIRED:
            return Unavailable(
                "the namespace has expired and is about to be deleted, try again",
                retry_after=_EXPIRED_SECONDS,
            )
    return quotas.refusal(wanted, stored) or Unavailable("others write the same, try again")


def not_writable(workspace_id: UUID, namespace: str) -> Denied:
    """The workspace may not write a namespace."""
    return Denied(
        f"workspace {workspace_id} cannot write to namespace {namespace}",
        reason="NAMESPACE_NOT_WRITABLE",
        metadata={"namespace": namespace},
    )


def other_text() -> AlreadyExists:
    """The memory with the wanted id has another text, and shall keep it."""
    return AlreadyExists("a memory with this id has another text", reason="MEMORY_ID_TAKEN")


def missing() -> NotFound:
    """The memory does not exist, or the workspace cannot read it."""
    return NotFound("memory not found", reason="MEMORY_NOT_FOUND")


def superseded(winner: UUID) -> Aborted:
    """Another memory has replaced this one."""
    return Aborted(
        f"memory {winner} has replaced this one",
        reason="MEMORY_SUPERSEDED",
        metadata={"superseded_by": str(winner)},
        body={"superseded_by": str(winner)},
    )


def changed(version: int) -> Aborted:
    """The memory has another version than the caller expects."""
    return Aborted(
        f"the memory has version {version}",
        reason="MEMORY_CHANGED",
        metadata={"version": str(version)},
        body={"version": version},
    )
