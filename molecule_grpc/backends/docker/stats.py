"""What a container uses, from one answer of the engine."""

from __future__ import annotations

from molecule_grpc.backends.contract.entering import Usage
from molecule_grpc.backends.docker.names import Json


def usage_of(stats: Json) -> Usage:
    """As `docker stats` computes it: the page cache that could be dropped counts for nobody."""
    memory = stats.get("memory_stats") or {}
    details = memory.get("stats") or {}
    cache = int(details.get("total_inactive_file") or details.get("inactive_file") or 0)
    return Usage(
        cpu=_processors(stats),
        memory_bytes=max(0, int(memory.get("usage") or 0) - cache),
        memory_limit_bytes=int(memory.get("limit") or 0),
        pids=int((stats.get("pids_stats") or {}).get("current") or 0),
    )


def _processors(stats: Json) -> float:
    now, before = stats.get("cpu_stats") or {}, stats.get("precpu_stats") or {}
    used = _total(now) - _total(before)
    passed = int(now.get("system_cpu_usage") or 0) - int(before.get("system_cpu_usage") or 0)
    count = int(now.get("online_cpus") or 1)
    return max(0.0, used / passed * count) if passed > 0 else 0.0


def _total(stats: Json) -> int:
    return int((stats.get("cpu_usage") or {}).get("total_usage") or 0)
