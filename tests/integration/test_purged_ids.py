"""Ids of purged workspaces that another organisation took: delegations of the first one go on."""

from __future__ import annotations

from uuid import UUID

import pytest

from molecule_grpc.db.pool import Pool
from molecule_grpc.delegation.inbox.retention import purge
from molecule_grpc.delegation.ledger.retention import LedgerRetention
from molecule_grpc.delegation.ledger.sweeper import Sweeper
from molecule_grpc.delegation.outbound.store import upkeep
from molecule_grpc.delegation.record.store import usage
from molecule_grpc.kernel.errors import Conflict
from molecule_grpc.kernel.ids import new_id
from tests.integration.agents import ORGANIZATION, Slice, hire


async def take_over(pool: Pool, workspace_id: UUID, **columns: str) -> UUID:
    """Purge a workspace, and let another organisation have its id; the organisation."""
    async with pool.acquire() as conn, conn.transaction():
        await upkeep.delete_all(conn, [workspace_id])
        await purge(conn, [workspace_id])
        await conn.execute("DELETE FROM workspaces WHERE id = $1", workspace_id)
    organization_id = new_id()
    await pool.execute(
        "INSERT INTO organizations (id, slug, name) VALUES ($1, $2, 'next')",
        organization_id,
        organization_id.hex,
    )
    await pool.execute(
        "INSERT INTO workspaces (id, name, organization_id, tier, status, runtime, url)"
        " VALUES ($1, 'next', $2, 3, 'online', 'external', $3)",
        workspace_id,
        organization_id,
        columns.get("url", ""),
    )
    return organization_id


async def test_result_is_not_told_to_the_next_holder_of_the_callers_id(
    slice_: Slice, pool: Pool
) -> None:
    caller, callee = await hire(pool, 2)
    name = await slice_.delegate(caller, callee)
    organization_id = await take_over(pool, caller)
    await LedgerRetention(pool, days=90).recount()
    assert (await slice_.update(callee, name, "completed", "confidential")).applied
    assert (await slice_.row(name))["result"] == "confidential"
    assert await slice_.items(caller) == []
    assert await slice_.record_of(caller) == []
    assert await usage.open_of(pool, caller) == 0
    assert await usage.of_organization(pool, organization_id) == (0, 0)
    assert (await usage.of_organization(pool, ORGANIZATION)).open == 0


@pytest.mark.parametrize("url", ["", "https://next.example/"])
async def test_next_holder_of_the_callees_id_gets_no_attempt_and_no_cancel(
    slice_: Slice, pool: Pool, url: str
) -> None:
    caller, callee = await hire(pool, 2)
    tried, cancelled = [await slice_.delegate(caller, callee, max_attempts=2) for _ in range(2)]
    await take_over(pool, callee, url=url)
    await slice_.update(caller, tried, "failed", error="gone")
    await slice_.ledger.moves.cancel(caller, cancelled, reason="")
    assert await slice_.items(callee) == []
    assert await slice_.record_of(callee) == []
    assert await pool.fetchval("SELECT count(*) FROM a2a_queue") == 0


async def test_delegation_of_a_callers_id_that_changed_hands_ends_at_its_deadline(
    slice_: Slice, pool: Pool
) -> None:
    caller, callee = await hire(pool, 2)
    name = await slice_.delegate(caller, callee)
    await take_over(pool, caller)
    await pool.execute("UPDATE delegations SET deadline = now() - interval '1 second'")
    assert await Sweeper(pool, slice_.writes, stuck_after=60).sweep() == 1
    row = await slice_.row(name)
    assert (row["status"], row["failure_reason"]) == ("failed", "deadline")


@pytest.mark.parametrize("gone", [0, 1])
async def test_operator_retries_nothing_with_a_party_that_was_purged(
    slice_: Slice, pool: Pool, gone: int
) -> None:
    caller, callee = pair = await hire(pool, 2)
    name = await slice_.delegate(caller, callee)
    await slice_.update(callee, name, "failed", error="broken")
    await take_over(pool, pair[gone])
    with pytest.raises(Conflict):
        await slice_.ledger.retries.retry(name, ORGANIZATION)
    assert await slice_.items(pair[gone]) == []
