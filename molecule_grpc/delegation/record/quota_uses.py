"""What organisations and workspaces use of the quotas of records, inboxes and delegations."""

from __future__ import annotations

from uuid import UUID

from molecule_grpc.db.pool import Pool
from molecule_grpc.delegation.record.store import activity, usage
from molecule_grpc.quotas import Quotas, QuotaUse


async def quota_uses(
    pool: Pool, quotas: Quotas, organization_id: UUID, workspace_id: UUID | None
) -> list[QuotaUse]:
    """Use of an organisation's quotas and of a workspace's."""
    used = await usage.of_organization(pool, organization_id)
    uses = [
        QuotaUse(quotas.open_of_organization, used.open),
        QuotaUse(quotas.record_bytes, used.bytes),
    ]
    if workspace_id is not None:
        items, size = await activity.undone(pool, workspace_id)
        uses += [
            QuotaUse(quotas.open_of_workspace, await usage.open_of(pool, workspace_id)),
            QuotaUse(quotas.inbox_items, items),
            QuotaUse(quotas.inbox_bytes, size),
        ]
    return uses
