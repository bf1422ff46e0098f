"""Which store serves: what an operator is told at start, and what a purge leaves in a plugin."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from aiohttp import web
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from molecule_grpc.db.pool import Pool
from molecule_grpc.memory.contract.namespaces import NamespacePut
from molecule_grpc.memory.contract.postgres import PostgresStore
from molecule_grpc.memory.plugin.cleanup import Cleanup
from molecule_grpc.memory.plugin.client import PluginClient
from molecule_grpc.memory.plugin.cutover import CutoverState, announce
from molecule_grpc.memory.plugin.server import contract_application
from molecule_grpc.memory.plugin.store import cleanup as outbox
from molecule_grpc.memory.upkeep import Upkeep
from molecule_grpc.settings.memory_plugin import MemoryPluginSettings
from molecule_grpc.settings.values import SettingsError
from tests.integration.workspaces import ORGANIZATION, add
from tests.plugin_servers import answering, serving

URL = "http://plugin:9100"


def told(cutover: str, url: str, error: str | None) -> tuple[CutoverState, list[dict[str, Any]]]:
    settings = MemoryPluginSettings(url=url, cutover=cutover)
    with capture_logs() as lines:
        state = announce(settings, error, ["fts"])
    return state, [dict(line) for line in lines]


@pytest.mark.parametrize("cutover", ["", "false", "true"])
@pytest.mark.parametrize("url", ["", "builtin:", URL])
@pytest.mark.parametrize("error", [None, "refused"])
def test_half_a_configuration_is_loud_and_a_whole_one_quiet(
    cutover: str, url: str, error: str | None
) -> None:
    state, lines = told(cutover, url, error)
    levels = [line["log_level"] for line in lines]
    if url != URL:
        half = cutover == "true" and not url
        assert levels == (["warning"] if half else [])
        assert state is (CutoverState.NO_PLUGIN if half else CutoverState.BUILT_IN)
    elif error:
        assert levels == (["warning"] if cutover == "true" else ["info"])
        assert state is CutoverState.PLUGIN_DOWN
        assert URL in str(lines[0])
        assert "refused" in str(lines[0])
    else:
        assert levels == ["info"]
        assert lines[0]["capabilities"] == ["fts"]
        assert state is CutoverState.PLUGIN
    gauge = {
        each.value: REGISTRY.get_sample_value("memory_cutover_state", {"state": each.value})
        for each in CutoverState
    }
    assert {name for name, value in gauge.items() if value} == {state.value}


def test_the_exact_texts() -> None:
    _, [line] = told("true", "", None)
    assert line["event"] == (
        "MEMORY_V2_CUTOVER=true, but MEMORY_PLUGIN_URL is not set: no plugin is asked, the"
        " built-in store serves everything; MEMORY_PLUGIN_URL=builtin: says that this is meant"
    )
    _, [line] = told("true", URL, "connection refused")
    assert line["event"] == (
        f"MEMORY_V2_CUTOVER=true, but the memory plugin at {URL} does not answer: connection"
        " refused; calls about memories fail until it does, nothing goes to another store"
    )
    _, [line] = told("", URL, "connection refused")
    assert (line["event"], line["url"]) == ("the memory plugin does not answer yet", URL)
    _, [line] = told("true", URL, None)
    assert (line["event"], line["cutover"]) == ("the memory plugin serves", True)


@pytest.mark.parametrize("cutover", ["TRUE", "1", "yes", "true "])
def test_only_the_exact_value_cuts_over_and_others_are_named(cutover: str) -> None:
    assert not MemoryPluginSettings(cutover=cutover).cut_over
    state, [line] = told(cutover, "", None)
    assert state is CutoverState.BUILT_IN
    assert (line["log_level"], line["value"]) == ("warning", cutover)


@pytest.mark.parametrize(("url", "error"), [("", None), (URL, "refused")])
def test_strict_refuses_to_start_with_a_half(url: str, error: str | None) -> None:
    settings = MemoryPluginSettings(url=url, cutover="true", strict=True)
    with pytest.raises(SettingsError, match="MEMORY_STRICT=1"):
        announce(settings, error, [])


def test_strict_starts_with_a_whole() -> None:
    settings = MemoryPluginSettings(url=URL, cutover="true", strict=True)
    assert announce(settings, None, []) is CutoverState.PLUGIN


async def queued(pool: Pool, *workspaces: UUID) -> set[str]:
    async with pool.acquire() as conn, conn.transaction():
        await outbox.add(conn, list(workspaces))
    rows = await pool.fetch("SELECT namespace FROM memory_cleanup_outbox")
    return {row[0] for row in rows}


async def test_a_purge_queues_what_nobody_can_read_any_more(pool: Pool) -> None:
    [root] = await add(pool)
    [lead] = await add(pool, parent_id=root)
    [leaf] = await add(pool, parent_id=lead)
    assert await queued(pool, leaf) == {f"workspace:{leaf}"}
    await pool.execute("DELETE FROM memory_cleanup_outbox")
    assert await queued(pool, lead, leaf) == {
        f"workspace:{leaf}",
        f"workspace:{lead}",
        f"team:{lead}",
    }
    await pool.execute("DELETE FROM memory_cleanup_outbox")
    assert await queued(pool, root) == {f"workspace:{root}", f"team:{root}", f"org:{root}"}


async def test_what_waits_for_a_plugin_of_once_is_dropped_in_the_end(pool: Pool) -> None:
    [old, new] = await add(pool, 2)
    await queued(pool, old)
    await pool.execute("UPDATE memory_cleanup_outbox SET created_at = now() - interval '31 days'")
    await Upkeep(pool, has_plugin=True).sweep()
    before = await queued(pool, new)
    assert {f"workspace:{old}", f"workspace:{new}"} <= before
    await Upkeep(pool).sweep()
    rows = await pool.fetch("SELECT namespace FROM memory_cleanup_outbox")
    assert {row[0] for row in rows} == {each for each in before if str(new) in each}


async def due_now(pool: Pool) -> None:
    await pool.execute("UPDATE memory_cleanup_outbox SET next_at = now()")


async def test_what_is_queued_is_deleted_and_what_is_not_there_is_done(pool: Pool) -> None:
    [leaf, other] = await add(pool, 2)
    store = PostgresStore(pool, ORGANIZATION)
    await store.put_namespace(f"workspace:{leaf}", NamespacePut(kind="workspace"))
    await store.put_namespace(f"workspace:{other}", NamespacePut(kind="workspace"))
    await queued(pool, leaf)
    async with serving(contract_application(store)) as url, PluginClient(url, 2.0) as client:
        await Cleanup(pool, client).sweep()
    assert await outbox.waiting(pool) == 0
    left = await pool.fetch("SELECT name FROM memory_namespaces")
    assert [row[0] for row in left] == [f"workspace:{other}"]


async def test_a_plugin_that_fails_is_asked_again_until_it_is_done(pool: Pool) -> None:
    [leaf] = await add(pool)
    names = await queued(pool, leaf)
    asked: list[str] = []
    status = 500

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append(f"{request.method} {request.path}")
        return web.Response(status=status)

    seconds = 0.0
    async with answering(handler) as url, PluginClient(url, 2.0, lambda: seconds) as client:
        cleanup = Cleanup(pool, client)
        await cleanup.sweep()
        assert await outbox.waiting(pool) == len(names)
        tried = len(asked)
        await cleanup.sweep()
        assert len(asked) == tried  # not due yet
        status, seconds = 204, 60.0
        await due_now(pool)
        await cleanup.sweep()
    assert await outbox.waiting(pool) == 0
    assert set(asked) == {f"DELETE /v1/namespaces/{name}" for name in names}


async def test_two_workers_share_the_work(pool: Pool) -> None:
    leaves = await add(pool, 60)
    async with pool.acquire() as conn, conn.transaction():
        await outbox.add(conn, leaves)
    one = await outbox.take(pool, 1000)
    two = await outbox.take(pool, 1000)
    assert len(one) == 180
    assert two == []
