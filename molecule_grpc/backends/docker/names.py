"""Names and labels of the backend's objects. Each name holds the whole id of a workspace."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

INSTALLATION: Final = "molecule.installation"
WORKSPACE: Final = "molecule.workspace"
ORGANIZATION: Final = "molecule.organization"
OPERATION: Final = "molecule.operation"
IMAGE: Final = "molecule.image"
# Of a container: the digest of its image.
# The machine's port that leads to the agent.
PORT: Final = "molecule.port"
DIGEST: Final = "molecule.image.digest"
# What a container is for, where it is no workload.
HELPER: Final = "molecule.helper"
# The label by which the platform's predecessor marks managed containers.
MANAGED: Final = "molecule.platform.managed"

CONFIGS: Final = "configs"
DATA: Final = "workspace"
SESSIONS: Final = "sessions"
SECRETS: Final = "secrets"
VOLUMES: Final = (CONFIGS, DATA, SESSIONS, SECRETS)


def container(workspace_id: UUID) -> str:
    """Name of a workspace's container, and its host name for neighbours on the network."""
    return f"ws-{workspace_id}"


def volume(workspace_id: UUID, purpose: str) -> str:
    """Name of one of a workspace's volumes."""
    return f"ws-{workspace_id}-{purpose}"


def labels(
    installation: str,
    workspace_id: UUID | None = None,
    organization_id: UUID | None = None,
    operation_id: UUID | None = None,
) -> dict[str, str]:
    """The labels of something; only what bears the installation's is ever touched."""
    named = {WORKSPACE: workspace_id, ORGANIZATION: organization_id, OPERATION: operation_id}
    found = {name: str(value) for name, value in named.items() if value is not None}
    return {INSTALLATION: installation, MANAGED: "true", **found}


def label_id(labels: Mapping[str, str] | None, name: str) -> UUID | None:
    """The id that a label holds; None without one."""
    try:
        return UUID((labels or {}).get(name, ""))
    except ValueError:
        return None


def label_filter(installation: str, **wanted: UUID | str) -> dict[str, list[str]]:
    """Filter of the engine's lists: of this installation, and with these labels."""
    named = {"workspace": WORKSPACE, "organization": ORGANIZATION}
    pairs = [f"{named[name]}={value}" for name, value in wanted.items()]
    return {"label": [f"{INSTALLATION}={installation}", *pairs]}


def moment(text: str) -> datetime:
    """A time as the engine writes it, with nanoseconds that Python cannot read."""
    head, dot, rest = text.partition(".")
    if not dot:
        return datetime.fromisoformat(text)
    digits = len(rest) - len(rest.lstrip("0123456789"))
    return datetime.fromisoformat(f"{head}.{rest[: min(digits, 6)]:0<6}{rest[digits:]}")


Json = dict[str, Any]
