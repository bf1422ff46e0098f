"""What callers are told who ask for a schedule that is not theirs to have."""

from __future__ import annotations

from molecule_grpc.kernel.errors import AlreadyExists, NotFound


def no_schedule() -> NotFound:
    """The workspace has no such schedule."""
    return NotFound("schedule not found", reason="SCHEDULE_NOT_FOUND")


def no_workspace() -> NotFound:
    """The workspace is unknown or removed."""
    return NotFound("workspace not found", reason="WORKSPACE_NOT_FOUND")


def name_taken(name: str) -> AlreadyExists:
    """The workspace has a schedule of this name."""
    return AlreadyExists(
        f"the workspace has a schedule named {name!r}"
        if name
        else "name is required: the workspace has a schedule without a name",
        reason="SCHEDULE_NAME_TAKEN",
    )
