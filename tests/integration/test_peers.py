"""The statement of the servers that the product is measured beside fits today's schema."""

from __future__ import annotations

import pytest

from benchmarks.harness import make_agents
from benchmarks.peers.programs import GO_MODULE
from molecule_grpc.db.pool import Pool


@pytest.mark.parametrize("name", ["one", "group"])
async def test_a_peer_writes_a_heartbeat(pool: Pool, database_url: str, name: str) -> None:
    """Both statements change the workspace's row and answer its status."""
    [agent] = await make_agents(database_url, 1)
    values = (agent.id, None, None, 7, None, "task", None, False)
    statement = (GO_MODULE / "cmd/server" / f"{name}.sql").read_text()
    row = await pool.fetchrow(
        statement, *(values if name == "one" else ([value] for value in values))
    )
    assert row is not None
    assert row["status"] == "online"
    changed = await pool.fetchrow(
        "SELECT active_tasks, current_task FROM workspaces WHERE id = $1", agent.id
    )
    assert changed is not None
    assert tuple(changed) == (7, "task")
