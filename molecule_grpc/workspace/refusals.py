"""How the slice says that a workspace is not there."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from molecule_grpc.kernel.errors import NotFound
from molecule_grpc.kernel.protos import rfc3339

_HINT = "it cannot come back; create a new workspace, or read it with include_removed=true"


def missing(**body: Any) -> NotFound:
    """No workspace of this id is visible to the caller, whatever the cause."""
    return NotFound("workspace not found", reason="WORKSPACE_NOT_FOUND", body=body)


def removed(workspace_id: str | None = None, removed_at: datetime | None = None) -> NotFound:
    """The workspace was removed, and the caller may know it."""
    body: dict[str, Any] = {}
    if workspace_id and removed_at:
        body = {"id": workspace_id, "removed_at": rfc3339(removed_at), "hint": _HINT}
    return NotFound("workspace removed", reason="WORKSPACE_REMOVED", body=body)
