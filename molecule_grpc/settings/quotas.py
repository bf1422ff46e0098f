"""Quotas: how much one organisation or workspace may keep."""

from __future__ import annotations

from dataclasses import dataclass

from molecule_grpc.settings.values import LIMIT, setting

_GIB = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaSettings:
    """What may be kept, over all workers. 0 is no limit.

    Args:
        workspaces: live workspaces of one organisation.
        organization_tokens: live tokens that administer one organisation.
        workspace_tokens: live tokens of one workspace.
        open_delegations_organization: delegations under way in one organisation.
        open_delegations_workspace: delegations under way that one workspace has handed out.
        schedules: schedules of one organisation.
        workspace_schedules: schedules of one workspace.
        pending_approvals: requests of one workspace for approval that nobody has decided.
        record_bytes: bytes a day that enter the records of one organisation's workspaces; a row
            counts 256 more than its texts.
        start_file_bytes: bytes of the files below /configs that the workspaces of one organisation
            are first started with.
    """

    workspaces: int = setting("MOLECULE_WORKSPACES_PER_ORGANIZATION", LIMIT, 10_000)
    organization_tokens: int = setting("MOLECULE_TOKENS_PER_ORGANIZATION", LIMIT, 2_000)
    workspace_tokens: int = setting("MOLECULE_TOKENS_PER_WORKSPACE", LIMIT, 50)
    open_delegations_organization: int = setting(
        "MOLECULE_OPEN_DELEGATIONS_PER_ORGANIZATION", LIMIT, 100_000
    )
    open_delegations_workspace: int = setting(
        "MOLECULE_OPEN_DELEGATIONS_PER_WORKSPACE", LIMIT, 10_000
    )
    schedules: int = setting("MOLECULE_SCHEDULES_PER_ORGANIZATION", LIMIT, 5_000)
    workspace_schedules: int = setting("MOLECULE_SCHEDULES_PER_WORKSPACE", LIMIT, 100)
    pending_approvals: int = setting("MOLECULE_PENDING_APPROVALS_PER_WORKSPACE", LIMIT, 100)
    record_bytes: int = setting("MOLECULE_RECORD_BYTES_PER_DAY", LIMIT, 32 * _GIB)
    start_file_bytes: int = setting("MOLECULE_START_FILE_BYTES_PER_ORGANIZATION", LIMIT, _GIB)
