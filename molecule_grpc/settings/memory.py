"""What agents remember, and how much of it is kept."""

from __future__ import annotations

from dataclasses import dataclass

from molecule_grpc.settings.values import LIMIT, SECONDS, setting

_GIB = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySettings:
    """Memories of agents. Sizes are in bytes, 0 is no limit.

    Args:
        namespace_memories: memories of one namespace, superseded ones included.
        namespace_bytes: bytes of their texts, earlier texts included.
        organization_memories: memories of one organisation.
        organization_bytes: bytes of their texts, earlier texts included.
        commits_per_minute: memories that one workspace may commit in a minute at one worker.
        sweep_interval: pause in seconds between two sweeps of what has expired.
        recall_interval: pause in seconds between two writes of when memories were recalled.
    """

    namespace_memories: int = setting("MOLECULE_MEMORIES_PER_NAMESPACE", LIMIT, 100_000)
    namespace_bytes: int = setting("MOLECULE_MEMORY_BYTES_PER_NAMESPACE", LIMIT, _GIB)
    organization_memories: int = setting("MOLECULE_MEMORIES_PER_ORGANIZATION", LIMIT, 2_000_000)
    organization_bytes: int = setting("MOLECULE_MEMORY_BYTES_PER_ORGANIZATION", LIMIT, 16 * _GIB)
    commits_per_minute: int = setting("MOLECULE_MEMORY_COMMITS_PER_MINUTE", LIMIT, 6_000)
    sweep_interval: float = setting("MOLECULE_MEMORY_SWEEP_SECONDS", SECONDS, 300.0)
    recall_interval: float = setting("MOLECULE_MEMORY_RECALL_SECONDS", SECONDS, 10.0)
