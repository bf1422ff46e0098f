"""A worker that calls agents at their URLs, on a real database and without a host."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
from google.api import httpbody_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from molecule_grpc.db.pool import Pool
from molecule_grpc.db.wakeups import Wakeups, delegation_key
from molecule_grpc.server.call import Call
from tests.fake_agent import FakeAgent
from tests.integration.agents import Slice, call_of, core_of, floors_of, hire
from tests.settings import settings_of
from tests.waiting import PATIENCE

# Short enough for tests, long enough to tell one from another.
QUICK: dict[str, Any] = {
    "deployment_environment": "development",
    "outbound_backoff": 0.1,
    "outbound_retry": 0.1,
    "outbound_lease": 5.0,
    "outbound_settle": 0.5,
}


@dataclass(slots=True)
class Worker(Slice):
    """A slice whose queue is delivered while `delivering`."""

    running: list[asyncio.Task[None]] = field(default_factory=list)

    async def post(
        self, caller: UUID | None, target: UUID, text: str = "hi", *, call: Call | None = None,
        message_id: str | None = None, **params: Any,
    ) -> tuple[httpbody_pb2.HttpBody, Call]:  # fmt: skip
        """Send a message; the answer, and the call with its headers and status."""
        message = {
            "messageId": message_id or str(uuid.uuid4()),
            "parts": [{"kind": "text", "text": text}],
        }
        body = {"method": "message/send", "params": {"message": message, **params}}
        request = pb.SendMessageRequest(workspace_id=str(target))
        request.body.data = json.dumps(body).encode()
        call = call or call_of(caller)
        return await self.send(request, call), call

    async def busy(self, caller: UUID | None, target: UUID, text: str, **params: Any) -> UUID:
        """Send a message that is queued; its id in the queue."""
        answer, _ = await self.post(caller, target, text, **params)
        said = json.loads(answer.data)
        assert said["queued"] is True, said
        return UUID(said["queue_id"])

    def deliver(self) -> None:
        """Deliver from now on."""
        self.running.append(asyncio.create_task(self.outbound.deliveries.run()))

    async def stop(self) -> None:
        """Begin nothing new."""
        for task in self.running:
            task.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)
        self.running.clear()

    async def landed(self) -> None:
        """Return when nothing is under way."""
        flights = self.outbound.sending._tasks
        while flights:
            await asyncio.wait(flights)

    async def queued(self, row_id: UUID) -> asyncpg.Record:
        """A row of the queue, every column."""
        found = await self.pool.fetchrow("SELECT * FROM a2a_queue WHERE id = $1", row_id)
        assert found is not None
        return found

    async def queue_of(self, target: UUID) -> list[asyncpg.Record]:
        """All rows for a workspace, oldest first."""
        return await self.pool.fetch(
            "SELECT * FROM a2a_queue WHERE workspace_id = $1 ORDER BY enqueued_at, id", target
        )

    async def until(
        self, row_id: UUID, *statuses: str, timeout: float = PATIENCE
    ) -> asyncpg.Record:
        """The row, when it has come to one of these."""
        async with asyncio.timeout(timeout):
            while (row := await self.queued(row_id))["status"] not in statuses:
                await self.landed()
                await asyncio.sleep(0.01)
        return row

    async def ended(self, delegation_id: str, *, timeout: float = PATIENCE) -> asyncpg.Record:
        """The delegation, when it has ended."""
        with self.wakeups.watch(delegation_key(delegation_id)) as flag:
            async with asyncio.timeout(timeout):
                while True:
                    flag.clear()
                    row = await self.row(delegation_id)
                    if row["status"] in ("completed", "failed", "stuck"):
                        return row
                    await flag.wait(0.5)


@contextlib.asynccontextmanager
async def worker_on(dsn: str, pool: Pool, **changes: Any) -> AsyncIterator[Worker]:
    """A worker over this database. Nothing is delivered from its queue before `deliver`."""
    settings = settings_of(**{**QUICK, **changes})
    wakeups = Wakeups(None, f"test-{uuid.uuid4().hex[:6]}")
    with core_of(dsn, pool, wakeups, settings) as core:
        async with floors_of(core) as opened:
            worker = Worker(*opened)
            try:
                yield worker
            finally:
                await worker.stop()


async def listening(pool: Pool, agent: FakeAgent | None, **columns: Any) -> UUID:
    """A workspace whose agent is called at its URL."""
    url = "" if agent is None else agent.url
    values = {"delivery_mode": "push", "runtime": "langgraph", "url": url, **columns}
    [workspace_id] = await hire(pool, 1, **values)
    return workspace_id
