"""Pins on a real database: who is started from what."""

from __future__ import annotations

import asyncio
from uuid import UUID, uuid4

import pytest
import structlog

from molecule_grpc.backends.contract.names import BackendName
from molecule_grpc.backends.docker.engine import Engine
from molecule_grpc.backends.docker.images import Images
from molecule_grpc.backends.images.pins import Pins
from molecule_grpc.backends.images.store import pins as store
from molecule_grpc.db.pool import Pool
from molecule_grpc.kernel.errors import Conflict, Invalid, NotFound, Unavailable
from molecule_grpc.settings.docker import DockerSettings
from tests.integration.workspaces import add

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")


@pytest.fixture
def pins(pool: Pool) -> Pins:
    """On an engine that nobody asks anything."""
    settings = DockerSettings(images=(("mine", "registry.example/mine:1.4"),))
    return Pins(pool, Images(Engine("unix:///nowhere"), settings), ignored=False)


async def workspace_of(pool: Pool, runtime: str) -> UUID:
    [made] = await add(pool, runtime=runtime)
    return made


async def test_a_start_is_pinned_as_its_runtime_is(pool: Pool, pins: Pins) -> None:
    """W31: a row pins; none, an empty and an unknown runtime do not."""
    await pins.pin("hermes", A)
    cases = {"hermes": A, "langgraph": "", "": "", "nobody-knows": ""}
    for runtime, digest in cases.items():
        assert await pins.of_workspace(await workspace_of(pool, runtime)) == digest
    assert await pins.of_workspace(uuid4()) == ""


async def test_a_pin_that_cannot_be_read_pins_nothing(pool: Pool, pins: Pins) -> None:
    """W31: availability comes before pinning, and the log tells."""
    workspace = await workspace_of(pool, "hermes")
    await pins.pin("hermes", A)
    await pool.execute("ALTER TABLE runtime_image_pins RENAME TO hidden")
    with structlog.testing.capture_logs() as logs:
        assert await pins.of_workspace(workspace) == ""
    assert [each["event"] for each in logs] == ["a pin was not read"]


async def test_local_images_read_no_pin(pool: Pool) -> None:
    """W32: the table is not even there."""
    workspace = await workspace_of(pool, "hermes")
    await pool.execute("DROP TABLE runtime_image_pins")
    with structlog.testing.capture_logs() as logs:
        assert await Pins(pool, None, ignored=True).of_workspace(workspace) == ""
    assert logs == []


async def test_a_rollback_goes_back_one_pin_after_the_other(pins: Pins) -> None:
    for digest in (A, B, B):
        await pins.pin("hermes", digest)
    image = await pins.pin("hermes", C)
    assert image.pin is not None
    assert image.pin.digests == [C, B, A]
    back = await pins.roll_back("hermes", C)
    again = await pins.roll_back("hermes", C)  # A repeat goes back no further.
    assert back.pin is not None
    assert again.pin == back.pin
    assert back.pin.digests == [B, A]
    await pins.roll_back("hermes", "")
    with pytest.raises(Conflict) as caught:
        await pins.roll_back("hermes", "")
    assert caught.value.reason == "NO_EARLIER_IMAGE"
    await pins.unpin("hermes")
    for gone in (pins.unpin("hermes"), pins.roll_back("hermes", "")):
        with pytest.raises(NotFound) as missing:
            await gone
        assert missing.value.reason == "IMAGE_NOT_PINNED"


async def test_many_pins_at_once_are_all_kept_and_the_oldest_are_forgotten(pins: Pins) -> None:
    digests = [f"sha256:{number:064x}" for number in range(30)]
    await asyncio.gather(*(pins.pin("hermes", each) for each in digests))
    image = await pins.pin("hermes", A)
    assert image.pin is not None
    assert len(image.pin.digests) == 20
    assert len(set(image.pin.digests)) == 20


async def test_unknown_runtimes_are_refused_with_those_that_are_known(pins: Pins) -> None:
    with pytest.raises(Invalid) as caught:
        await pins.pin("nobody-knows", A)
    assert caught.value.reason == "RUNTIME_UNKNOWN"
    names = [image.runtime for image in await pins.list_all()]
    assert {"langgraph", "claude-code", "mine"} <= set(names)
    mine = next(image for image in await pins.list_all() if image.runtime == "mine")
    assert (mine.reference, mine.moving) == ("registry.example/mine:1.4", False)


async def test_without_an_engine_pins_are_kept_and_nothing_is_pulled(pool: Pool) -> None:
    pins = Pins(pool, None, ignored=False)
    assert (await pins.pin("hermes", A)).reference == ""
    with pytest.raises(Unavailable) as caught:
        await pins.promote("hermes")
    assert caught.value.reason == "NO_BACKEND"


async def test_who_still_runs_an_older_image_is_counted_and_found(pool: Pool, pins: Pins) -> None:
    """W33: by the partial index; rows of before images were recorded count nowhere."""
    docker = BackendName.DOCKER
    found: dict[str, list[UUID]] = {}
    for digest, status in ((A, "online"), (B, "online"), (B, "paused"), (None, "online")):
        [made] = await add(pool, runtime="hermes", status=status)
        await pool.execute(
            "UPDATE workspaces SET runtime_image_digest = $2, backend = $3, resource_id = 'c'"
            " WHERE id = $1",
            made, digest, docker,
        )  # fmt: skip
        found.setdefault(f"{digest} {status}", []).append(made)
    image = await pins.pin("hermes", A)
    assert image.counts == (3, 2)
    older = await store.elsewhere(pool, "hermes", A, docker, after=UUID(int=0), limit=10)
    assert older == found[f"{B} online"]
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute("SET LOCAL enable_seqscan = off")
        plan = await conn.fetch(
            "EXPLAIN SELECT count(*) FROM workspaces"
            " WHERE runtime = 'hermes' AND runtime_image_digest = $1", B,
        )  # fmt: skip
    assert "workspaces_image" in "\n".join(row[0] for row in plan)
