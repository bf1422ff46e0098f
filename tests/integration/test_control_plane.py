"""The control plane over HTTP, in good health and in bad."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason, Refused
from molecule_grpc.backends.contract.workloads import (
    Absent,
    Resource,
    Running,
    Started,
    Stopped,
    Unknown,
)
from molecule_grpc.backends.control_plane.backend import ControlPlane
from molecule_grpc.kernel.ids import new_id
from tests import control_plane as bad
from tests.control_plane import ScriptedControlPlane, control_plane
from tests.integration.backends import INSTALLATION, a_start, backend_of
from tests.ports import free_port

SECONDS = 5.0


@pytest.fixture
async def plane() -> AsyncIterator[ScriptedControlPlane]:
    async with control_plane() as opened:
        yield opened


@pytest.fixture
async def backend(plane: ScriptedControlPlane) -> AsyncIterator[ControlPlane]:
    async with backend_of(plane) as opened:
        yield opened


async def test_a_start_says_all_that_the_machine_needs(
    plane: ScriptedControlPlane, backend: ControlPlane
) -> None:
    """8.7: path, body, secrets; and which operation and installation the machine is of."""
    request = a_start(reset_session=True)
    assert await backend.start(request, deadline=SECONDS) == Started("i-00000001")
    [asked] = plane.asked
    assert (asked.method, asked.path) == ("POST", "/cp/workspaces/provision")
    assert asked.body == {
        "org_id": "org-1",
        "workspace_id": str(request.workspace_id),
        "runtime": "langgraph",
        "tier": 2,
        "platform_url": "https://platform.example",
        "env": {"MOLECULE_TOKEN": "the-agents-token"},
    }
    assert asked.headers["idempotency-key"] == str(request.operation_id)
    assert asked.headers["x-molecule-installation-id"] == str(INSTALLATION)
    assert asked.headers["x-molecule-admin-token"] == "admin"


async def test_a_stop_names_the_machine_and_not_the_workspace(
    plane: ScriptedControlPlane, backend: ControlPlane
) -> None:
    """R-8.6: and without a machine nothing is sent."""
    workspace = new_id()
    await backend.stop(Resource(workspace_id=workspace), deadline=SECONDS)
    assert plane.asked == []
    started = await backend.start(a_start(workspace), deadline=SECONDS)
    resource = Resource(workspace_id=workspace, resource_id=started.resource_id)
    await backend.stop(resource, deadline=SECONDS)
    assert plane.asked[-1].path == f"/cp/workspaces/{workspace}"
    assert plane.asked[-1].query == {"instance_id": "i-00000001"}
    assert plane.running == []


@pytest.mark.parametrize("status", [301, 400, 401, 404, 409, 429, 500, 502, 503])
async def test_a_stop_that_is_not_confirmed_is_a_failure(
    plane: ScriptedControlPlane, backend: ControlPlane, status: int
) -> None:
    """R-8.7: a 404 of whatever answers there says nothing about the machine."""
    plane.script["DELETE"] = [bad.failing(status)]
    with pytest.raises(BackendFailure) as failed:
        await backend.stop(Resource(workspace_id=new_id(), resource_id="i-1"), deadline=SECONDS)
    assert "internal-db-7" not in str(failed.value)


async def test_a_machine_that_is_gone_is_stopped(backend: ControlPlane) -> None:
    await backend.stop(Resource(workspace_id=new_id(), resource_id="i-9"), deadline=SECONDS)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("running", Running),
        ("pending", Running),
        ("stopped", Stopped),
        ("terminated", Absent),
        ("on-fire", Unknown),
    ],
)
async def test_a_state_has_one_of_four_meanings(
    plane: ScriptedControlPlane, backend: ControlPlane, state: str, expected: type
) -> None:
    request = a_start()
    started = await backend.start(request, deadline=SECONDS)
    plane.machines[started.resource_id].state = state
    resource = Resource(workspace_id=request.workspace_id, resource_id=started.resource_id)
    assert isinstance(await backend.status(resource, deadline=SECONDS), expected)


@pytest.mark.parametrize(
    "behaviour",
    [
        bad.failing(500),
        bad.failing(404),
        bad.garbage,
        bad.too_long,
        bad.hang_up,
        bad.drip,
        bad.hang,
    ],
    ids=["500", "404", "garbage", "too-long", "hang-up", "drip", "hang"],
)
async def test_a_status_that_is_not_told_is_unknown(
    plane: ScriptedControlPlane, backend: ControlPlane, behaviour: bad.Behaviour
) -> None:
    """R-8.8: and says so within its deadline. Else one bad minute restarts the fleet."""
    plane.script["GET"] = [behaviour] * 2  # The client asks once more when a connection breaks.
    resource = Resource(workspace_id=new_id(), resource_id="i-1")
    began = time.monotonic()
    assert isinstance(await backend.status(resource, deadline=0.3), Unknown)
    assert time.monotonic() - began < 5


async def test_a_workspace_without_a_machine_is_absent(
    plane: ScriptedControlPlane, backend: ControlPlane
) -> None:
    """R-8.8: no call is needed for that."""
    assert await backend.status(Resource(workspace_id=new_id()), deadline=SECONDS) == Absent()
    assert plane.asked == []


@pytest.mark.parametrize(
    ("behaviour", "reason", "undone"),
    [
        (bad.failing(401), FailureReason.FORBIDDEN, True),
        (bad.failing(402), FailureReason.QUOTA, True),
        (bad.failing(422), FailureReason.CONFIGURATION, True),
        (bad.failing(429), FailureReason.THROTTLED, True),
        (bad.failing(503, {"code": "insufficient_capacity"}), FailureReason.CAPACITY, True),
        (bad.failing(422, {"code": "image_not_found"}), FailureReason.IMAGE_MISSING, True),
        (bad.failing(500, {"code": "x" * 99}), FailureReason.ENGINE, False),
        (bad.failing(504), FailureReason.ENGINE, False),
        (bad.garbage, FailureReason.ENGINE, False),
        (bad.too_long, FailureReason.ENGINE, False),
        (bad.hang_up, FailureReason.UNREACHABLE, False),
        (bad.drip, FailureReason.TIMEOUT, False),
        (bad.hang, FailureReason.TIMEOUT, False),
    ],
)
async def test_a_start_that_fails_says_why_and_whether_nothing_was_done(
    plane: ScriptedControlPlane,
    backend: ControlPlane,
    behaviour: bad.Behaviour,
    reason: FailureReason,
    undone: bool,
) -> None:
    plane.script["POST"] = [behaviour]
    with pytest.raises(BackendFailure) as failed:
        await backend.start(a_start(), deadline=0.3)
    assert (failed.value.reason, failed.value.undone) == (reason, undone)
    told = str(failed.value)
    assert "internal-db-7" not in told
    assert "the-agents-token" not in told


async def test_a_control_plane_that_is_away_is_unreachable() -> None:
    nowhere = ScriptedControlPlane(url=f"http://127.0.0.1:{free_port()}")
    async with backend_of(nowhere) as backend:
        with pytest.raises(BackendFailure) as failed:
            await backend.start(a_start(), deadline=SECONDS)
    assert (failed.value.reason, failed.value.undone) == (FailureReason.UNREACHABLE, True)


async def test_calls_that_hang_end_with_their_deadline_and_hold_up_nobody(
    plane: ScriptedControlPlane, backend: ControlPlane
) -> None:
    plane.script["GET"] = [bad.hang] * 40
    hanging = [Resource(workspace_id=new_id(), resource_id="i-1") for _ in range(40)]
    began = time.monotonic()
    found = await asyncio.gather(*(backend.status(each, deadline=0.5) for each in hanging))
    assert all(isinstance(each, Unknown) for each in found)
    assert time.monotonic() - began < 10
    started = await backend.start(a_start(), deadline=SECONDS)
    assert started.resource_id in plane.machines


async def test_a_machine_is_found_by_the_operation_that_started_it(
    plane: ScriptedControlPlane, backend: ControlPlane
) -> None:
    """A worker takes over from another that died before reading the answer."""
    request = a_start()
    plane.script["POST"] = [bad.done_then(plane, bad.hang_up)]
    with pytest.raises(BackendFailure):
        await backend.start(request, deadline=SECONDS)
    found = await backend.status(request.resource, deadline=SECONDS)
    assert found == Running("i-00000001", operation_id=request.operation_id)
    await backend.stop(request.resource, deadline=SECONDS)
    assert plane.running == []


async def test_a_stop_by_operation_fails_where_nothing_is_told(plane: ScriptedControlPlane) -> None:
    plane.tells_without_id = False
    async with backend_of(plane) as backend:
        with pytest.raises(BackendFailure):
            await backend.stop(a_start().resource, deadline=SECONDS)


async def test_a_console_is_read_with_a_token_of_its_own(plane: ScriptedControlPlane) -> None:
    workspace = new_id()
    plane.script["GET"] = [bad.failing(200, {"output": "boot"}), bad.failing(200, {"output": 1})]
    async with backend_of(plane, console_token="for-consoles") as backend:
        resource = Resource(workspace_id=workspace, resource_id="i-1")
        assert await backend.console(resource, deadline=SECONDS) == "boot"
        assert plane.asked[-1].path == f"/cp/admin/workspaces/{workspace}/console"
        assert plane.asked[-1].headers["authorization"] == "Bearer for-consoles"
        with pytest.raises(BackendFailure):
            await backend.console(resource, deadline=SECONDS)


async def test_what_it_cannot_do_is_refused_by_name(backend: ControlPlane) -> None:
    with pytest.raises(Refused, match="control-plane does not offer logs"):
        backend.logs(Resource(workspace_id=new_id()))
    with pytest.raises(Refused, match="files"):
        await backend.delete_file(Resource(workspace_id=new_id()), "/configs/a", deadline=SECONDS)
