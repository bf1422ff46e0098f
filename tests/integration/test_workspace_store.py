"""Workspaces on a real database: removing, registering, tokens, updates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
import structlog
from moleculeai.workspace.v1 import workspace_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.auth.principal import ANONYMOUS, OPERATOR, Principal, Role
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.directory import Heartbeat
from molecule_grpc.kernel.errors import (
    AlreadyExists,
    Invalid,
    MoleculeError,
    NotFound,
    Unauthenticated,
)
from molecule_grpc.kernel.page import MAX_PAGE_BYTES
from molecule_grpc.workspace.registry.store import heartbeats as beats
from molecule_grpc.workspace.registry.store import liveness
from molecule_grpc.workspace.store import workspaces
from molecule_grpc.workspace.tree import store as tree
from tests.integration.workspaces import (
    ORGANIZATION,
    STATUSES,
    Bench,
    add,
    add_organization,
    bench_of,
    by,
    one_row,
)


@pytest.fixture
async def bench(pool: Pool, database_url: str) -> AsyncIterator[Bench]:
    async with bench_of(
        pool, database_url, deployment_deploy_mode="saas", egress_networks=("10.0.0.0/8",)
    ) as opened:
        yield opened


async def test_removing_wants_a_confirmation_where_children_live(bench: Bench) -> None:
    root = await bench.create("root")
    child = await bench.create("child", root)
    grandchild = await bench.create("grandchild", child)
    answer = await bench.delete(root)
    assert answer.status == "confirmation_required"
    assert [(one.id, one.name) for one in answer.children] == [(child, "child")]
    assert answer.children_count == 1
    assert await bench.status(root) == "awaiting_agent"
    done = await bench.delete(root, confirm=True)
    assert (done.status, done.cascade_deleted) == ("removed", 2)
    assert [await bench.status(one) for one in (root, child, grandchild)] == ["removed"] * 3
    assert {str(one) for one in bench.woken} == {root, child, grandchild}
    again = await bench.delete(root)
    assert (again.status, again.cascade_deleted) == ("removed", 0)


async def test_removing_ends_every_token_below(bench: Bench) -> None:
    root = await bench.create("root")
    child = await bench.create("child", root)
    assert await bench.live_tokens(child) == 1
    await bench.delete(root, confirm=True)
    assert (await bench.live_tokens(root), await bench.live_tokens(child)) == (0, 0)


async def test_late_signs_of_life_do_not_bring_a_removed_workspace_back(bench: Bench) -> None:
    workspace = await bench.create("w")
    await bench.delete(workspace)
    request = pb.HeartbeatRequest(workspace_id=workspace)
    for attempt in (bench.service.answer_heartbeat(request), bench.register(workspace)):
        with pytest.raises(NotFound) as caught:
            await attempt
        assert caught.value.reason == "WORKSPACE_REMOVED"
    assert (await bench.status(workspace), await bench.live_tokens(workspace)) == ("removed", 0)


async def test_purge_deletes_rows_and_leaves_the_ledger(bench: Bench) -> None:
    root = await bench.create("root")
    child = await bench.create("child", root)
    await bench.pool.execute(
        """
        INSERT INTO delegations (delegation_id, caller_id, callee_id, organization_id, task_preview)
        VALUES ('kept', $1, $2, $3, 'task')
        """,
        root,
        child,
        ORGANIZATION,
    )
    await bench.delete(child)
    answer = await bench.delete(root, confirm=True, purge=True)
    assert (answer.status, answer.cascade_deleted) == ("purged", 1)
    assert {str(one) for one in bench.purged} == {root, child}
    assert await bench.status(root) is None
    assert await bench.pool.fetchval("SELECT count(*) FROM workspace_auth_tokens") == 0
    assert await bench.pool.fetchval("SELECT count(*) FROM delegations") == 1
    with pytest.raises(NotFound):
        await bench.delete(root)


async def test_credentials_of_an_id_are_its_organisations_though_a_worker_remembers_another(
    bench: Bench,
) -> None:
    """The statements name the organisation: here the caller was admitted by mistake."""
    before, now = [
        Principal(Role.ORGANIZATION, organization_id=await add_organization(bench.pool))
        for _ in range(2)
    ]
    workspace = str(uuid4())
    token = (await bench.register(workspace, now)).auth_token
    assert token
    token_id = await bench.pool.fetchval("SELECT id FROM workspace_auth_tokens")
    service, caller = bench.service, by(before)
    change = pb.UpdateWorkspaceRequest(workspace_id=workspace)
    change.name = "mine"
    card = pb.UpdateCardRequest(workspace_id=workspace)
    card.agent_card.string_value = "x"
    for refused in (
        service.CreateToken(pb.CreateTokenRequest(workspace_id=workspace), caller),
        service.ListTokens(pb.ListTokensRequest(workspace_id=workspace), caller),
        service.RevokeToken(
            pb.RevokeTokenRequest(workspace_id=workspace, token_id=str(token_id)), caller
        ),
        service.RotateExternalCredentials(
            pb.RotateExternalCredentialsRequest(workspace_id=workspace), caller
        ),
        service.GetExternalConnection(
            pb.GetExternalConnectionRequest(workspace_id=workspace), caller
        ),
        bench.register(workspace, before),
        service.UpdateWorkspace(change, caller),
        service.UpdateCard(card, caller),
        service.DeleteWorkspace(pb.DeleteWorkspaceRequest(workspace_id=workspace), caller),
    ):
        with pytest.raises(NotFound):
            await refused
    assert await bench.live_tokens(workspace) == 1
    assert await bench.status(workspace) == "online"


async def test_an_error_of_the_purge_leaves_everything_as_it_was(bench: Bench) -> None:
    workspace = await bench.create("w")

    async def fail(conn: Connection, workspace_ids: list[UUID]) -> None:
        raise RuntimeError("boom")

    bench.workspace.on_purge(fail)
    with pytest.raises(RuntimeError):
        await bench.delete(workspace, purge=True)
    assert await bench.status(workspace) == "awaiting_agent"
    assert await bench.live_tokens(workspace) == 1
    assert bench.woken == []


async def test_a_workspace_is_created_although_its_token_is_not(bench: Bench) -> None:
    """W46: rotating the token later mints the first."""
    await bench.pool.execute(
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN RAISE 'no token today'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON workspace_auth_tokens EXECUTE FUNCTION refuse();
        """
    )
    with structlog.testing.capture_logs() as logs:
        workspace = await bench.create("w")
    assert (await bench.status(workspace), await bench.live_tokens(workspace)) == (
        "awaiting_agent", 0,
    )  # fmt: skip
    [told] = [each for each in logs if "hint" in each]
    assert told["hint"] == f"POST /workspaces/{workspace}/external/rotate"
    await bench.pool.execute("DROP TRIGGER refuse ON workspace_auth_tokens")
    request = pb.RotateExternalCredentialsRequest(workspace_id=workspace)
    answer = await bench.service.RotateExternalCredentials(request, by(OPERATOR))
    assert len(answer.connection.auth_token) == 43


async def test_first_registrations_at_once_share_one_token(bench: Bench) -> None:
    [workspace] = await add(bench.pool, runtime="external")
    answers = await asyncio.gather(*(bench.register(str(workspace)) for _ in range(6)))
    assert len([one for one in answers if one.auth_token]) == 1
    assert await bench.live_tokens(str(workspace)) == 1


@pytest.mark.parametrize("status", [name for name in STATUSES if name != "removed"])
async def test_registering_brings_online_what_nobody_stopped(bench: Bench, status: str) -> None:
    [workspace] = await add(bench.pool, status=status, runtime="external")
    await bench.register(str(workspace))
    row = await one_row(bench.pool, "SELECT * FROM workspaces WHERE id = $1", workspace)
    stopped = ("paused", "hibernating", "hibernated")
    assert row["status"] == (status if status in stopped else "online")
    assert row["last_sample_error"] is None


async def test_unknown_id_is_created_for_administrators_only(bench: Bench) -> None:
    organization = await add_organization(bench.pool)
    admin = Principal(Role.ORGANIZATION, organization_id=organization)
    name = str(uuid4())
    answer = await bench.register(name, admin, delivery_mode=workspace_pb2.Workspace.poll)
    assert len(answer.auth_token) == 43
    row = await one_row(bench.pool, "SELECT * FROM workspaces WHERE id = $1", name)
    assert (row["organization_id"], row["name"], row["runtime"], row["status"]) == (
        organization, name, "external", "online",
    )  # fmt: skip
    with pytest.raises(Unauthenticated):
        await bench.register(str(uuid4()), ANONYMOUS)


@pytest.mark.parametrize(
    ("stored", "runtime", "fields", "mode", "url"),
    [
        (None, "external", {}, "poll", ""),
        (None, "external", {"url": "http://10.1.1.1"}, "push", "http://10.1.1.1"),
        ("push", "external", {"url": "http://10.1.1.1"}, "push", "http://10.1.1.1"),
        ("poll", "external", {"url": "http://10.1.1.1"}, "poll", ""),
        ("push", "external", {"url": "remote://no-inbound"}, "poll", ""),
        ("push", "hermes", {"url": "remote://no-inbound"}, "poll", ""),
        ("push", "hermes", {"delivery_mode": workspace_pb2.Workspace.poll}, "poll", ""),
    ],
)
async def test_registering_settles_the_mode(
    bench: Bench, stored: str | None, runtime: str, fields: dict[str, Any], mode: str, url: str
) -> None:
    """W61, Q2: stated, else stated earlier, else by the URL; in poll mode no URL is kept."""
    [workspace] = await add(bench.pool, delivery_mode=stored, runtime=runtime)
    answer = await bench.register(str(workspace), **fields)
    assert workspace_pb2.Workspace.DeliveryMode.Name(answer.delivery_mode) == mode
    row = await one_row(bench.pool, "SELECT url, mode_in_force FROM workspaces")
    assert tuple(row) == (url, mode)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "INVALID_ARGUMENT"),
        ("http://169.254.169.254/latest", "URL_NOT_ALLOWED"),
        ("http://127.0.0.1:80", "URL_NOT_ALLOWED"),
        ("file:///etc/passwd", "URL_NOT_ALLOWED"),
    ],
)
async def test_push_mode_needs_a_url_that_may_be_called(
    bench: Bench, url: str, reason: str
) -> None:
    [workspace] = await add(bench.pool, delivery_mode="push")
    with pytest.raises(Invalid) as caught:
        await bench.register(str(workspace), url=url)
    assert caught.value.reason == reason
    assert await bench.pool.fetchval("SELECT agent_card FROM workspaces") is None


async def test_open_registration_lets_one_stranger_in(pool: Pool, database_url: str) -> None:
    [workspace] = await add(pool, runtime="external")
    async with bench_of(pool, database_url, auth_open_registration=True) as bench:
        results = await asyncio.gather(
            *(bench.register(str(workspace), ANONYMOUS) for _ in range(5)), return_exceptions=True
        )
        with pytest.raises(Unauthenticated):
            await bench.register(str(uuid4()), ANONYMOUS)
    refused = [one for one in results if isinstance(one, MoleculeError)]
    assert len(refused) == 4
    assert {type(one) for one in refused} == {Unauthenticated}
    assert await bench.live_tokens(str(workspace)) == 1


async def test_no_more_than_fifty_tokens_live_however_many_ask(bench: Bench) -> None:
    workspace = await bench.create("w")
    request = pb.CreateTokenRequest(workspace_id=workspace)
    results = await asyncio.gather(
        *(bench.service.CreateToken(request, by(OPERATOR)) for _ in range(55)),
        return_exceptions=True,
    )
    refused = [one for one in results if isinstance(one, MoleculeError)]
    assert len(refused) == 6
    assert {one.reason for one in refused} == {"TOO_MANY_TOKENS"}
    assert await bench.live_tokens(workspace) == 50


async def test_update_changes_all_or_nothing(bench: Bench) -> None:
    await bench.create("taken")
    workspace = await bench.create("w")
    request = pb.UpdateWorkspaceRequest(workspace_id=workspace, name="taken", tier=7, x=1, y=2)
    with pytest.raises(AlreadyExists):
        await bench.service.UpdateWorkspace(request, by(OPERATOR))
    row = await one_row(bench.pool, "SELECT name, tier FROM workspaces WHERE id = $1", workspace)
    assert tuple(row) == ("w", 4)
    assert await bench.pool.fetchval("SELECT count(*) FROM canvas_layouts") == 0


async def test_hot_statements_read_no_more_rows_than_they_need(pool: Pool) -> None:
    """Among 20,000 workspaces of 200 organisations, each statement goes through an index."""
    await pool.execute(
        """
        INSERT INTO organizations (id, slug, name)
        SELECT gen_random_uuid(), 'o' || n, 'o' FROM generate_series(1, 200) n
        """
    )
    await pool.execute(
        """
        INSERT INTO workspaces (id, organization_id, name, tier, status)
        SELECT gen_random_uuid(), o.id, 'w' || n, 3, 'offline'
        FROM organizations o, generate_series(1, 100) n
        """
    )
    await pool.execute("ANALYZE workspaces")
    one = await one_row(pool, "SELECT * FROM workspaces LIMIT 1")
    start = (workspaces._BEGINNING, UUID(int=0))
    statements: list[tuple[str, tuple[object, ...]]] = [
        (tree._PAIR, (one["id"], one["id"], one["organization_id"])),
        (tree._PEERS, (one["id"], "", "", UUID(int=0), 101, MAX_PAGE_BYTES)),
        (tree._FAMILY, (one["id"],)),
        (workspaces._LIST_OF_ORGANIZATION, (*start, 1_001, MAX_PAGE_BYTES, one["organization_id"])),
        (workspaces._LIST_ALL, (*start, 101, MAX_PAGE_BYTES)),
        (liveness.SWEEP, (90.0, 180.0, UUID(int=0), 100, *liveness.EVENT_NAMES)),
        (beats._TOUCH, ([one["id"]], "WORKSPACE_ONLINE")),
        (
            beats.HEARTBEAT,
            (*([each] for each in Heartbeat(one["id"])[:-1]), 0.5, 0.1, *beats.EVENT_NAMES),
        ),
    ]
    for statement, arguments in statements:
        lines = await pool.fetch(f"EXPLAIN {statement}", *arguments)
        plan = "\n".join(line[0] for line in lines)
        assert "Seq Scan on workspaces" not in plan, plan
