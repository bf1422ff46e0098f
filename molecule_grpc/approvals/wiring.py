"""Opens the slice for one worker."""

from __future__ import annotations

from molecule_grpc.approvals import upkeep
from molecule_grpc.approvals.approvals import Approvals
from molecule_grpc.approvals.ports import LeaveMessage, Workspaces
from molecule_grpc.approvals.service import ApprovalsService, handlers
from molecule_grpc.approvals.upkeep import Upkeep
from molecule_grpc.core import Core, Slice
from molecule_grpc.db.sweep import SWEEP_TIMEOUT_SECONDS
from molecule_grpc.server.tasks import BackgroundTask


def open_approvals(core: Core, workspaces: Workspaces, leave: LeaveMessage) -> Slice:
    """The slice.

    Args:
        leave: puts a text into an agent's inbox or queue.
    """
    settings = core.settings
    sweeps = Upkeep(core.pool, leave, retention_days=settings.retention.approvals)
    telling = BackgroundTask(upkeep.TELLING_NAME, upkeep.PERIOD_SECONDS, sweeps.tell)
    approvals = Approvals(
        core.pool,
        core.page_tokens,
        core.quotas.pending_approvals,
        default_seconds=settings.workspace.approval_seconds,
        decided=telling.nudge,
    )
    workspaces.on_uses(approvals.quota_uses)

    async def expire() -> None:
        await sweeps.expire()
        telling.nudge()

    return Slice(
        handlers=[handlers(ApprovalsService(approvals))],
        tasks=[
            telling,
            BackgroundTask(upkeep.EXPIRY_NAME, upkeep.PERIOD_SECONDS, expire),
            BackgroundTask(
                upkeep.RETENTION_NAME,
                settings.retention.sweep,
                sweeps.sweep,
                timeout=SWEEP_TIMEOUT_SECONDS,
            ),
        ],
    )
