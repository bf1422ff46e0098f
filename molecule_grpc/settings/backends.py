"""Where workspaces run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from molecule_grpc.settings.values import COUNT, LIMIT, SECONDS, Kind, choice, setting

AUTO: Final = "auto"
DOCKER: Final = "docker"
EC2: Final = "ec2"
# Those that this version has.
NAMES: Final = ("control-plane", EC2, "kubernetes", DOCKER)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(word.strip().lower() for word in text.split(",") if word.strip())
    if not set(names) <= set(NAMES):
        raise ValueError
    return names


_SOME: Final = Kind(_names, f"names with commas between them, of {', '.join(NAMES)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSettings:
    """The backends of workspaces and the operations on them. Times are in seconds.

    Args:
        backend: where workspaces are started: the name of a backend, or `none`; `auto` means the
            control plane where MOLECULE_ORG_ID and its URL are given, and otherwise none.
        kept: further backends on which workspaces still run: they are stopped and read there, and
            nothing is started.
        concurrency: starts at once of all workers together; 0 for no limit.
        concurrency_per_organization: the same for one organisation.
        start_timeout: the longest that a start may take until the engine runs the workload.
        stop_timeout: the longest that one try of a stop may take.
        retry_pause: pause before a backend is asked again after a failure; doubled after each.
        lease: an operation whose worker was silent for so long is finished by another.
        reconcile_interval: pause between two comparisons of the engine with the rows.
        retention_days: days for which an operation stays readable after its end.
    """

    backend: str = setting("MOLECULE_BACKEND", choice(AUTO, "none", *NAMES), AUTO)
    kept: tuple[str, ...] = setting("MOLECULE_BACKENDS_KEPT", _SOME, ())
    concurrency: int = setting("MOLECULE_PROVISION_CONCURRENCY", LIMIT, 3)
    concurrency_per_organization: int = setting(
        "MOLECULE_PROVISION_CONCURRENCY_PER_ORGANIZATION", LIMIT, 0
    )
    start_timeout: float = setting("MOLECULE_BACKEND_START_TIMEOUT_SECONDS", SECONDS, 180.0)
    stop_timeout: float = setting("MOLECULE_BACKEND_STOP_TIMEOUT_SECONDS", SECONDS, 30.0)
    retry_pause: float = setting("MOLECULE_BACKEND_RETRY_SECONDS", SECONDS, 1.0)
    lease: float = setting("MOLECULE_OPERATION_LEASE_SECONDS", SECONDS, 15.0)
    reconcile_interval: float = setting("MOLECULE_RECONCILE_SECONDS", SECONDS, 60.0)
    retention_days: int = setting("MOLECULE_OPERATION_RETENTION_DAYS", COUNT, 30)
