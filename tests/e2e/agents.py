"""Agents for tests: siblings with tokens of their own."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

from molecule_grpc.client.agent import Agent
from molecule_grpc.client.platform import Platform


@dataclass(frozen=True, slots=True)
class Identity:
    """A workspace with its id, name and token."""

    workspace_id: str
    name: str
    token: str


async def new_identity(platform: Platform, parent_id: str = "") -> Identity:
    """A fresh external workspace."""
    name = f"agent-{uuid.uuid4().hex[:8]}"
    made = await platform.create_workspace(name, parent_id=parent_id)
    return Identity(made.id, name, made.connection.auth_token)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two siblings: who hands over, and who does the work."""

    lead: Agent
    worker: Agent
    lead_identity: Identity
    worker_identity: Identity


@contextlib.asynccontextmanager
async def open_pair(platform: Platform, url: str) -> AsyncIterator[Pair]:
    """Two connected siblings."""
    lead, worker = await new_identity(platform), await new_identity(platform)
    async with (
        Agent(url, lead.workspace_id, lead.token) as leading,
        Agent(url, worker.workspace_id, worker.token) as working,
    ):
        yield Pair(leading, working, lead, worker)
