"""Workspaces that the platform runs, on a server whose control plane is a test's."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from tests.conftest import as_server
from tests.control_plane import SECRET, Machine, ScriptedControlPlane, control_plane
from tests.e2e.parties import Agent, Organization, Party, Wire, found, wire_to
from tests.running import RunningServer
from tests.waiting import until

_QUICK = {
    "MOLECULE_HEALTH_INTERVAL_S": "0.3",
    "MOLECULE_HIBERNATION_INTERVAL_S": "0.3",
    "MOLECULE_HIBERNATION_STUCK_S": "0.3",
    "MOLECULE_PROVISION_TIMEOUT_INTERVAL_S": "0.3",
    "MOLECULE_A2A_WAKE_INTERVAL_S": "0.3",
    "MOLECULE_RESTART_BACKOFF_S": "0.05",
    "MOLECULE_OPERATION_LEASE_SECONDS": "3",
    "MOLECULE_BACKEND_RETRY_SECONDS": "0.05",
    # Agents of tests listen at 127.0.0.1.
    "MOLECULE_ENV": "development",
}


@dataclass(slots=True)
class Platform:
    """A running server, with a scripted control plane."""

    server: RunningServer
    wire: Wire
    plane: ScriptedControlPlane
    operator: Party
    org: Organization
    database: asyncpg.Connection[asyncpg.Record]

    async def create(self, name: str = "", **fields: Any) -> ManagedWorkspace:
        """A workspace that the platform starts, when its first machine runs."""
        body = {"name": name or f"w {uuid.uuid4().hex[:8]}", "runtime": "langgraph", **fields}
        answer = await self.org.rest("POST", "/workspaces", body)
        assert answer.status_code == 201, answer.text
        workspace = ManagedWorkspace(self, answer.json()["id"])
        await workspace.machine()
        return workspace

    async def online(self, name: str = "", **fields: Any) -> ManagedWorkspace:
        """A workspace whose agent has registered and reads the inbox."""
        workspace = await self.create(name, **fields)
        await workspace.register()
        return workspace

    async def operations(self, workspace_id: str) -> list[tuple[str, str, str]]:
        """Kind, source and state of a workspace's operations, oldest first."""
        rows = await self.database.fetch(
            "SELECT kind, source, state FROM workspace_operations WHERE workspace_id = $1"
            " ORDER BY created_at, id",
            uuid.UUID(workspace_id),
        )
        return [tuple(row) for row in rows]


@dataclass(slots=True)
class ManagedWorkspace:
    """A workspace that the platform runs."""

    platform: Platform
    id: str

    async def verb(self, name: str, body: Any = None, **params: Any) -> httpx.Response:
        """Call a verb."""
        return await self.platform.org.rest("POST", f"/workspaces/{self.id}/{name}", body, **params)

    async def row(self) -> dict[str, Any]:
        """What GetWorkspace tells."""
        answer = await self.platform.org.rest("GET", f"/workspaces/{self.id}")
        found: dict[str, Any] = answer.json()
        return found

    async def status(self) -> str:
        """Its status."""
        return str((await self.row())["status"])

    async def reaches(self, *statuses: str) -> str:
        """The workspace's status, after waiting until the status is among `statuses`."""
        return await until(self.status, lambda status: status in statuses)

    def machines(self) -> list[Machine]:
        """All that were ever started, oldest first."""
        machines = self.platform.plane.machines.values()
        return [each for each in machines if each.workspace_id == self.id]

    async def machine(self, number: int = 1) -> Machine:
        """The machine of this number, once it runs."""
        await self.platform.plane.wait(lambda: len(self.machines()) >= number)
        return self.machines()[number - 1]

    async def stopped(self) -> None:
        """Return when nothing runs of it."""
        await self.platform.plane.wait(
            lambda: all(each.state == "terminated" for each in self.machines())
        )

    async def register(self, number: int = 1, **fields: Any) -> Agent:
        """Register as the agent on the machine of this number, once the platform has its token."""
        machine = await self.machine(number)
        token = machine.env["MOLECULE_TOKEN"]
        party = self.platform.wire.party(token)
        body = {"id": self.id, "agent_card": {"name": "agent"}, "delivery_mode": "poll", **fields}
        answer = await party.rest("POST", "/registry/register", body)
        assert answer.status_code == 200, answer.text
        return Agent(self.platform.wire, party.headers, self.id, token)

    async def settled(self) -> None:
        """Return when no operation waits or runs."""
        await until(
            lambda: self.platform.operations(self.id),
            lambda rows: all(state not in ("pending", "running") for _, _, state in rows),
        )

    async def set(self, **columns: Any) -> None:
        """Change the row as time would."""
        written = ", ".join(f"{name} = ${n}" for n, name in enumerate(columns, 2))
        await self.platform.database.execute(
            f"UPDATE workspaces SET {written} WHERE id = $1", uuid.UUID(self.id), *columns.values()
        )


@contextlib.asynccontextmanager
async def platform_of(
    database_url: str, directory: Path, **environment: str
) -> AsyncIterator[Platform]:
    """A server with a control plane, while inside."""
    async with control_plane() as plane:
        server = RunningServer(
            database_url,
            directory,
            DATABASE_URL=as_server(database_url),
            MOLECULE_BACKEND="control-plane",
            MOLECULE_ORG_ID="org-1",
            MOLECULE_CP_URL=plane.url,
            MOLECULE_CP_SHARED_SECRET=SECRET,
            **{**_QUICK, **environment},
        )
        # The control plane is served by this loop.
        await asyncio.to_thread(server.start)
        database = await asyncpg.connect(database_url)
        try:
            async with wire_to(server) as wire:
                operator = wire.party(server.admin_token)
                org = await found(wire, operator)
                yield Platform(server, wire, plane, operator, org, database)
        finally:
            await database.close()
            server.kill()
