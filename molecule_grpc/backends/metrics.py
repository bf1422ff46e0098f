"""What backends do, by backend and outcome: never by workspace."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Histogram

from molecule_grpc.backends.contract.failures import FailureReason
from molecule_grpc.backends.contract.names import BackendName

SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
_OUTCOMES: Final = (SUCCEEDED, CANCELLED, *FailureReason)

_STARTS = Counter(
    "molecule_provision_total",
    "Starts of workspaces that ended, by backend and outcome: succeeded, cancelled, or why not.",
    ["backend", "outcome"],
)
_STOPS = Counter(
    "molecule_stop_total",
    "Stops and removals of workspaces that were tried, by backend and outcome.",
    ["backend", "outcome"],
)
_ONLINE = Histogram(
    "molecule_provision_online_seconds",
    "From the request to start a workspace until its agent is online, by backend.",
    ["backend"],
    buckets=(0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800),
)
_ORPHANS = Counter(
    "molecule_backend_orphans_total",
    "Workloads that no row expects, found on the engine and removed, by backend.",
    ["backend"],
)
_DRIFT = Counter(
    "molecule_backend_drift_healed_total",
    "Workspaces whose workload was gone and was started again, by backend.",
    ["backend"],
)
_IMAGE_PULLS = Counter(
    "molecule_image_pulls_total",
    "Images that refreshes asked registries for, by outcome: succeeded or failed.",
    ["outcome"],
)

# Every series is exported from the start, at zero.
STARTS: Final = {
    (name, outcome): _STARTS.labels(name, outcome) for name in BackendName for outcome in _OUTCOMES
}
STOPS: Final = {
    (name, outcome): _STOPS.labels(name, outcome) for name in BackendName for outcome in _OUTCOMES
}
ONLINE: Final = {name: _ONLINE.labels(name) for name in BackendName}
ORPHANS: Final = {name: _ORPHANS.labels(name) for name in BackendName}
DRIFT_HEALED: Final = {name: _DRIFT.labels(name) for name in BackendName}
IMAGE_PULLS: Final = {name: _IMAGE_PULLS.labels(name) for name in (SUCCEEDED, FAILED)}
