"""Images through the real server, on a real engine and a real registry."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import asyncpg
import docker
import pytest

from tests.e2e.command_line import command_line
from tests.e2e.parties import Organization, Party, found, wire_to
from tests.engine.docker import DockerEngine
from tests.engine.registry import Registry
from tests.running import RunningServer
from tests.waiting import until

pytestmark = pytest.mark.e2e

RUNTIME = "crewai"
PATH = f"/admin/workspace-images/{RUNTIME}"


@pytest.fixture
def repository(registry: Registry, witness: docker.DockerClient) -> Iterator[str]:
    name = registry.name()
    yield name
    for image in witness.images.list(name):
        witness.images.remove(str(image.id), force=True)


@pytest.fixture
def platform(
    own_server: Callable[..., RunningServer], docker_engine: DockerEngine, repository: str
) -> RunningServer:
    """A server whose workspaces of one runtime have the repository's image."""
    return own_server(
        entry=docker_engine.namespace.entry,
        MOLECULE_HOST=docker_engine.namespace.inside,
        MOLECULE_BACKEND="docker",
        MOLECULE_DOCKER_HOST=docker_engine.url,
        MOLECULE_DOCKER_IMAGES=f"{RUNTIME}={repository}",
        IMAGE_AUTO_REFRESH="true",
        MOLECULE_IMAGE_REFRESH_SECONDS="1",
    )


@pytest.fixture
async def operator(platform: RunningServer) -> AsyncIterator[Party]:
    async with wire_to(platform) as wire:
        yield wire.party(platform.admin_token)


class Runner:
    """A workspace whose program only sleeps; the test registers in its place."""

    def __init__(self, org: Organization, witness: docker.DockerClient, workspace: str) -> None:
        self.id = workspace
        self._org = org
        self._witness = witness

    async def digest(self) -> str:
        """The digest of the container's image; empty without a container."""
        name = f"ws-{self.id}"
        found = self._witness.containers.list(filters={"name": name})
        return str(found[0].labels["molecule.image.digest"]) if found else ""

    async def run(self, digest: str) -> None:
        """Wait until it runs this image, and bring it online."""
        await until(self.digest, lambda seen: seen == digest)
        # The operation has noted what runs before anybody compares.
        await until(self._last_operation, lambda state: state == "succeeded")
        await self.awake()

    async def awake(self) -> str:
        """Register once more: only workspaces that are up are restarted. What it runs."""
        card = {"id": self.id, "agent_card": {}, "delivery_mode": "poll"}
        await self._org.rest("POST", "/registry/register", card)
        return await self.digest()

    async def restart(self) -> None:
        answer = await self._org.rest("POST", f"/workspaces/{self.id}/restart", {})
        assert answer.status_code == 200, answer.text

    async def _last_operation(self) -> str:
        answer = await self._org.rest("GET", f"/workspaces/{self.id}/operations")
        return str(answer.json()["operations"][0]["state"])


async def _seen(platform: RunningServer) -> str:
    """What the platform knows of the registry."""
    connection = await asyncpg.connect(platform.database_url)
    try:
        return str(await connection.fetchval("SELECT digest FROM runtime_images_seen"))
    finally:
        await connection.close()


async def test_pins_hold_promotions_move_and_refreshes_restart(
    operator: Party,
    platform: RunningServer,
    witness: docker.DockerClient,
    registry: Registry,
    repository: str,
) -> None:
    """W31, W33, W35, W57: from the first start on `latest` to a rollback."""
    first = registry.push(repository)
    org = await found(operator.wire, operator)
    made = await org.rest("POST", "/workspaces", {"name": "runner", "runtime": RUNTIME})
    runner = Runner(org, witness, made.json()["id"])
    await runner.run(first)

    promoted = await operator.rest("POST", f"{PATH}/promote", {})
    assert (promoted.status_code, promoted.json()["pinned_digest"]) == (200, first), promoted.text
    second = registry.push(repository)
    await runner.restart()
    await runner.run(first)  # Pinned.

    refreshed = await operator.rest(
        "POST", "/admin/workspace-images/refresh", runtime=RUNTIME, recreate="true"
    )
    body = refreshed.json()
    assert (body["pulled"], body["failed"], body["recreated_count"]) == ([RUNTIME], [], 0)

    promoted = await operator.rest("POST", f"{PATH}/promote", {})
    assert promoted.json()["pinned_digest"] == second
    assert (promoted.json()["workspaces"], promoted.json()["outdated"]) == (1, 1)
    refreshed = await operator.rest(
        "POST", "/admin/workspace-images/refresh", runtime=RUNTIME, recreate="true"
    )
    assert refreshed.json()["recreated"] == [runner.id]
    await runner.run(second)

    back = await operator.rest("POST", f"{PATH}/rollback", {"from_digest": second})
    again = await operator.rest("POST", f"{PATH}/rollback", {"from_digest": second})
    assert back.json()["pinned_digest"] == again.json()["pinned_digest"] == first
    await runner.restart()
    await runner.run(first)

    # Without a pin, what the registry has moves workspaces by itself.
    assert (await operator.rest("DELETE", f"{PATH}/pin")).json() == {"status": "unpinned"}
    liveness = (await operator.rest("GET", "/admin/liveness")).text
    assert "image-auto-refresh" in liveness
    await runner.restart()
    await runner.run(second)
    await until(lambda: _seen(platform), lambda digest: digest == second)
    third = registry.push(repository)
    await until(runner.awake, lambda seen: seen == third)

    audit = (await operator.rest("GET", "/admin/audit-log", limit=100)).json()
    assert {"PromoteImage", "RollbackImage", "UnpinImage", "RefreshImages"} <= {
        entry["rpc"].rpartition("/")[2] for entry in audit
    }
    await org.rest("DELETE", f"/workspaces/{runner.id}", purge="true")
    await until(runner.digest, lambda seen: seen == "")


async def test_what_cannot_be_done_is_refused_by_name(operator: Party) -> None:
    """Unknown runtimes with those that are known; images of no registry; nothing to go back to."""
    unknown = await operator.rest("POST", "/admin/workspace-images/refresh", runtime="nobody")
    assert unknown.status_code == 400
    assert RUNTIME in unknown.json()["known_runtimes"]
    gone = await operator.rest("POST", f"{PATH}/promote", {})
    assert (gone.status_code, gone.json()["why"]) == (503, "image_missing"), gone.text
    malformed = await operator.rest("PUT", f"{PATH}/pin", {"digest": "latest"})
    assert malformed.status_code == 400
    for method, path in (("DELETE", "pin"), ("POST", "rollback")):
        answer = await operator.rest(method, f"{PATH}/{path}", None if method == "DELETE" else {})
        assert answer.status_code == 404, answer.text
    digest = f"sha256:{uuid.uuid4().hex * 2}"
    assert (await operator.rest("PUT", f"{PATH}/pin", {"digest": digest})).status_code == 200
    only = await operator.rest("POST", f"{PATH}/rollback", {})
    assert only.status_code == 400
    failed = (
        await operator.rest("POST", "/admin/workspace-images/refresh", runtime=RUNTIME)
    ).json()
    assert [each["runtime"] for each in failed["failed"]] == [RUNTIME]


def test_the_command_line_shows_and_moves_pins(server: RunningServer) -> None:
    """On a server without an engine, pins are kept for the day when there is one."""
    digest = f"sha256:{uuid.uuid4().hex * 2}"
    with command_line(server.url, server.admin_token) as cli:
        assert cli.json("image", "pin", "deepagents", digest)["pinned_digest"] == digest
        rows: list[dict[str, Any]] = cli.json("image", "ls")
        [row] = [each for each in rows if each["runtime"] == "deepagents"]
        assert row["pinned_digest"] == digest
        assert cli.json("image", "pin", "deepagents", f"sha256:{'0' * 64}")
        back = cli.json("image", "rollback", "deepagents", "--from", f"sha256:{'0' * 64}")
        assert back["pinned_digest"] == digest
        assert cli.json("image", "unpin", "deepagents")["status"] == "unpinned"
        for words in (("promote", "deepagents"), ("refresh", "deepagents")):
            code, _, error = cli.run("image", *words)
            assert (code != 0, "no backend here has images" in error) == (True, True)
