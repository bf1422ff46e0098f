"""Backends as the program opens them, on engines of the tests; and requests of starts."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from molecule_grpc.backends.contract.workloads import StartRequest
from molecule_grpc.backends.control_plane.backend import ControlPlane
from molecule_grpc.backends.control_plane.client import ControlPlaneClient
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.settings.control_plane import ControlPlaneSettings
from tests.control_plane import SECRET, ScriptedControlPlane
from tests.integration.workspaces import ORGANIZATION

INSTALLATION = new_id()


def a_start(workspace_id: UUID | None = None, **given: Any) -> StartRequest:
    """A start of a workspace of tier 2."""
    plain: dict[str, Any] = {
        "operation_id": new_id(),
        "workspace_id": workspace_id or new_id(),
        "organization_id": ORGANIZATION,
        "name": "a workspace",
        "runtime": "langgraph",
        "tier": 2,
        "env": {"MOLECULE_TOKEN": "the-agents-token"},
    }
    return StartRequest(**plain | given)


@contextlib.asynccontextmanager
async def backend_of(plane: ScriptedControlPlane, **given: Any) -> AsyncIterator[ControlPlane]:
    """The program's control plane backend, calling a scripted one."""
    settings = ControlPlaneSettings(
        **{"url": plane.url + "/", "shared_secret": SECRET, "timeout": 5.0, **given}
    )
    client = ControlPlaneClient(settings, admin_token="admin", installation=str(INSTALLATION))
    backend = ControlPlane(
        client,
        organization="org-1",
        platform_url="https://platform.example",
        console_token=settings.console_token,
    )
    try:
        yield backend
    finally:
        await backend.close()
