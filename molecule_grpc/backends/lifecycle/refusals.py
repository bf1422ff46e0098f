"""How a verb is refused."""

from __future__ import annotations

from uuid import UUID

from molecule_grpc.kernel.errors import Aborted, Conflict, NotFound, Unavailable

_EXTERNAL_HINT = (
    "its agent runs outside of the platform: restart it there, or give it new credentials by "
    "POST /workspaces/{}/external/rotate"
)


def paused_above(parent: str) -> Aborted:
    """An ancestor is paused."""
    return Aborted(
        f'parent workspace "{parent}" is paused — resume it first',
        reason="WORKSPACE_PAUSED",
        metadata={"parent": parent},
        body={"parent": parent},
    )


def external(workspace_id: UUID) -> Conflict:
    """The platform neither starts nor stops this agent."""
    return Conflict(
        "an external workspace is not started or stopped by the platform",
        reason="RUNTIME_EXTERNAL",
        body={"runtime": "external", "hint": _EXTERNAL_HINT.format(workspace_id)},
    )


def no_backend() -> Unavailable:
    """Nothing starts workspaces here."""
    return Unavailable("provisioner not available", reason="NO_BACKEND")


def tasks_running(active_tasks: int) -> Aborted:
    """The agent has tasks."""
    return Aborted(
        "the workspace has active tasks: repeat with force=true to stop it nevertheless",
        reason="TASKS_RUNNING",
        metadata={"active_tasks": str(active_tasks)},
        body={"active_tasks": active_tasks},
    )


def not_so(what: str) -> NotFound:
    """No workspace of this id is in a status that the verb may leave."""
    return NotFound(f"workspace not found or {what}", reason="WORKSPACE_NOT_FOUND")
