"""Quotas: how much one organisation or workspace may keep."""

from __future__ import annotations

from dataclasses import dataclass

from molecule_grpc.settings.values import LIMIT, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaSettings:
    """What may be kept, over all workers. 0 is no limit.

    Args:
        workspaces: live workspaces of one organisation.
        organization_tokens: live tokens that administer one organisation.
        workspace_tokens: live tokens of one workspace.
    """

    workspaces: int = setting("MOLECULE_WORKSPACES_PER_ORGANIZATION", LIMIT, 10_000)
    organization_tokens: int = setting("MOLECULE_TOKENS_PER_ORGANIZATION", LIMIT, 2_000)
    workspace_tokens: int = setting("MOLECULE_TOKENS_PER_WORKSPACE", LIMIT, 50)
