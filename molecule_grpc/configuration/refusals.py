"""How the slice refuses."""

from __future__ import annotations

from molecule_grpc.kernel.errors import AlreadyExists, NotFound


def missing() -> NotFound:
    """No workspace of this id is visible to the caller."""
    return NotFound("workspace not found", reason="WORKSPACE_NOT_FOUND")


def no_agent() -> NotFound:
    """The workspace has no agent."""
    return NotFound("no agent is assigned to the workspace", reason="AGENT_NOT_FOUND")


def occupied() -> AlreadyExists:
    """The workspace has an agent."""
    return AlreadyExists("an agent is assigned to the workspace already", reason="AGENT_ASSIGNED")
