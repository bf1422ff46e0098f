"""What a pod uses, as its own control groups say: no metrics server is needed, a shell is."""

from __future__ import annotations

from typing import Final

from molecule_grpc.backends.contract.entering import Usage
from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason
from molecule_grpc.backends.kubernetes.cluster import Cluster
from molecule_grpc.backends.kubernetes.execs import run

_OUTPUT_BYTES: Final = 4096
# Two looks with half a second between them; each line is a name and a number. The files are those
# of control groups of version 2, then of version 1.
_LOOK: Final = """
first() { name=$1; shift; for f; do [ -r "$f" ] && { echo "$name $(cat "$f")"; return; }; done; }
look() {
  read -r uptime rest < /proc/uptime; echo "uptime $uptime"
  while read -r key value; do [ "$key" = usage_usec ] && echo "cpu_usec $value"
  done 2>/dev/null < /sys/fs/cgroup/cpu.stat
  first cpu_nsec /sys/fs/cgroup/cpuacct/cpuacct.usage /sys/fs/cgroup/cpu,cpuacct/cpuacct.usage
}
look; sleep 0.5; look
first memory /sys/fs/cgroup/memory.current /sys/fs/cgroup/memory/memory.usage_in_bytes
first limit /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes
first pids /sys/fs/cgroup/pids.current /sys/fs/cgroup/pids/pids.current
"""
# What version 1 says where there is no limit.
_UNLIMITED: Final = 1 << 60


async def usage_of(cluster: Cluster, pod: str) -> Usage:
    """What the pod's container uses. Takes half a second, in which it is measured."""
    code, printed, errors = await run(cluster, pod, ["sh", "-c", _LOOK], most=_OUTPUT_BYTES)
    if code and not printed:
        detail = errors.decode(errors="replace")
        raise BackendFailure(FailureReason.ENGINE, "the pod was not measured", detail=detail)
    return usage_from(printed.decode(errors="replace"))


def usage_from(text: str) -> Usage:
    """The usage that two looks tell of; 0 for what the pod could not read."""
    found: dict[str, list[float]] = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        found.setdefault(name, []).append(_number(value))
    used = _grown(found, "cpu_usec") / 1e6 or _grown(found, "cpu_nsec") / 1e9
    passed = _grown(found, "uptime")
    limit = _last(found, "limit")
    return Usage(
        cpu=max(0.0, used / passed) if passed > 0 else 0.0,
        memory_bytes=int(_last(found, "memory")),
        memory_limit_bytes=0 if limit >= _UNLIMITED else int(limit),
        pids=int(_last(found, "pids")),
    )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0  # `max`, where there is no limit.


def _grown(found: dict[str, list[float]], name: str) -> float:
    values = found.get(name, [])
    return values[-1] - values[0] if len(values) > 1 else 0.0


def _last(found: dict[str, list[float]], name: str) -> float:
    return found.get(name, [0.0])[-1]
