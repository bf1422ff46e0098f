"""What all share, and how much of it one organisation may use: over the wire, at both faces."""

from __future__ import annotations

import asyncio

import asyncpg

from tests.e2e.parties import Organization, Party
from tests.running import RunningServer


async def test_calls_that_hold_statements_delay_their_own_organization_only(
    server: RunningServer, org: Organization, other_org: Organization, stranger: Party
) -> None:
    """Twenty calls of one token wait for a lock; a pool has sixteen connections."""
    slow, neighbour = await org.hire(), await other_org.hire()
    connection = await asyncpg.connect(server.database_url)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM workspaces WHERE id = $1 FOR UPDATE", slow.id)
            waiting = [
                asyncio.create_task(slow.rest("POST", f"/workspaces/{slow.id}/tokens"))
                for _ in range(20)
            ]
            blocked = """
                SELECT count(*) FROM pg_stat_activity
                WHERE wait_event_type = 'Lock' AND datname = current_database()
            """
            while await connection.fetchval(blocked) < 4:
                await asyncio.sleep(0.01)
            for _ in range(5):
                answer = await neighbour.rest("GET", f"/workspaces/{neighbour.id}/tokens")
                assert answer.status_code == 200, answer.text
                assert (await stranger.rest("GET", "/health")).status_code == 200
            assert await connection.fetchval(blocked) == 4
    finally:
        await connection.close()
    answers = await asyncio.gather(*waiting)
    assert {answer.status_code for answer in answers} == {201}
