"""Background jobs that fail, seen from outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from molecule_grpc.db.pool import Pool
from tests.e2e.parties import Agent, Party, found, wire_to
from tests.e2e.test_attempts import delegated
from tests.running import RunningServer
from tests.waiting import until

FAILING_SWEEP = """
    CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'this sweep must fail'; END $$;
    CREATE TRIGGER failing BEFORE UPDATE ON workspaces
        FOR EACH ROW WHEN (NEW.status = 'awaiting_agent') EXECUTE FUNCTION fail();
"""


async def subsystem(operator: Party, name: str) -> dict[str, Any]:
    """One background job's row of /admin/liveness."""
    answer = await operator.rest("GET", "/admin/liveness")
    found: dict[str, Any] = answer.json()["subsystems"][name]
    return found


async def test_a_sweep_that_fails_stops_neither_the_next_one_nor_the_server(
    own_server: Callable[..., RunningServer], pool: Pool
) -> None:
    """D19: the same job runs again and succeeds, the other jobs run on, and calls are served."""
    server = own_server(
        DELEGATION_SWEEPER_INTERVAL_S="1",
        MOLECULE_LIVENESS_INTERVAL_S="1",
        REMOTE_LIVENESS_STALE_AFTER="1",
    )
    async with wire_to(server) as wire:
        operator = wire.party(server.admin_token)
        org = await found(wire, operator)
        source, target = await org.hire(), await org.hire()
        silent = await org.hire()
        await pool.execute(FAILING_SWEEP)
        await silent.rest("POST", "/registry/heartbeat", {"workspace_id": silent.id})

        async def liveness() -> dict[str, Any]:
            return await subsystem(operator, "liveness-sweep")

        # The second failure is that of a second run.
        await until(liveness, lambda seen: seen["failures"] >= 2)
        overdue = await delegated(source, target)
        await pool.execute("UPDATE delegations SET deadline = now() - interval '1 s'")
        await until(lambda: status_of(source, overdue), lambda status: status == "failed")

        await pool.execute("DROP TRIGGER failing ON workspaces")
        await until(liveness, lambda seen: seen["failures"] == 0)
        answer = await silent.rest("GET", f"/workspaces/{silent.id}")
        assert answer.json()["status"] == "awaiting_agent"


async def status_of(caller: Agent, delegation_id: str) -> str:
    answer = await caller.rest("GET", f"/workspaces/{caller.id}/delegations/{delegation_id}")
    status: str = answer.json()["status"]
    return status
