"""Names and labels of what the backend makes on a cluster. Full ids: no two are the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

Json = dict[str, Any]

INSTALLATION: Final = "moleculeai.dev/installation"
WORKSPACE: Final = "moleculeai.dev/workspace"
ORGANIZATION: Final = "moleculeai.dev/organization"
OPERATION: Final = "moleculeai.dev/operation"

CONFIGS: Final = "configs"
DATA: Final = "workspace"
SESSIONS: Final = "sessions"
CONTAINER: Final = "agent"


def workload(workspace_id: UUID) -> str:
    """Name of a workspace's StatefulSet, its Secret and its NetworkPolicy."""
    return f"ws-{workspace_id}"


def pod(workspace_id: UUID) -> str:
    """Name of the only pod of a workspace."""
    return f"{workload(workspace_id)}-0"


def claim(workspace_id: UUID, purpose: str) -> str:
    """Name of the claim that a StatefulSet makes from the template `purpose`."""
    return f"{purpose}-{pod(workspace_id)}"


def resource_id(workspace_id: UUID, operation_id: UUID) -> str:
    """Of what one operation has started: a later start of the workspace has another."""
    return f"{workload(workspace_id)}@{operation_id}"


def labels(
    installation: str,
    workspace_id: UUID,
    organization_id: UUID | None = None,
    operation_id: UUID | None = None,
) -> dict[str, str]:
    """The labels of something; only what bears the installation's is ever touched."""
    named = {WORKSPACE: workspace_id, ORGANIZATION: organization_id, OPERATION: operation_id}
    found = {name: str(value) for name, value in named.items() if value is not None}
    return {INSTALLATION: installation, "app.kubernetes.io/managed-by": "molecule-grpc", **found}


def label_id(found: Json, name: str) -> UUID | None:
    """The id that a label of an object holds; None without one."""
    labels: Mapping[str, str] = found["metadata"].get("labels") or {}
    try:
        return UUID(labels.get(name, ""))
    except ValueError:
        return None


def bears(found: Json, installation: str) -> bool:
    """Whether an object is this installation's."""
    labels: Mapping[str, str] = found["metadata"].get("labels") or {}
    return labels.get(INSTALLATION) == installation


def selector(installation: str, workspace_id: UUID | None = None) -> str:
    """Selects what this installation has made, or has made for one workspace."""
    wanted = f"{INSTALLATION}={installation}"
    return wanted if workspace_id is None else f"{wanted},{WORKSPACE}={workspace_id}"
