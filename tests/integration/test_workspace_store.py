"""Workspaces on a real database: signs of life, the tree, and what survives concurrency."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moleculeai.workspace.v1 import workspace_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.auth.principal import ANONYMOUS, OPERATOR, Principal, Role
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.errors import (
    AlreadyExists,
    Conflict,
    Denied,
    Invalid,
    MoleculeError,
    NotFound,
    Unauthenticated,
)
from molecule_grpc.ids import new_id
from molecule_grpc.server.call import Call
from molecule_grpc.settings import Settings
from molecule_grpc.workspace.directory import Directory
from molecule_grpc.workspace.heartbeats import Heartbeats
from molecule_grpc.workspace.service import WorkspaceService
from molecule_grpc.workspace.store import beats, registry, tree, workspaces
from molecule_grpc.workspace.store.beats import Beat
from molecule_grpc.workspace.workers import sweep_liveness

ORGANIZATION = workspaces.DEFAULT_ORGANIZATION
STATUSES = [one.name for one in workspace_pb2.Workspace.Status.DESCRIPTOR.values if one.number]

shared_database = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)


class Bench:
    """The slice without a host."""

    def __init__(self, pool: Pool, heartbeats: Heartbeats, chosen: Settings) -> None:
        self.pool = pool
        self.purged: list[UUID] = []
        self.woken: list[UUID] = []
        self.beaten: list[tuple[UUID, list[str]]] = []
        self.service = WorkspaceService(
            pool=pool,
            settings=chosen,
            directory=Directory(pool),
            heartbeats=heartbeats,
            beat_delegations=self._beat,
            on_purge=self._purge,
            wake=self.woken.extend,
        )

    async def create(self, name: str, parent: str = "", *, organization: str = "") -> str:
        request = pb.CreateWorkspaceRequest(
            name=name, external=True, parent_id=parent, organization_id=organization
        )
        return (await self.service.CreateWorkspace(request, by(OPERATOR))).id

    async def move(self, workspace: str, parent: str) -> None:
        request = pb.UpdateWorkspaceRequest(workspace_id=workspace)
        request.parent_id.string_value = parent
        await self.service.UpdateWorkspace(request, by(OPERATOR))

    async def delete(self, workspace: str, **flags: bool) -> pb.DeleteWorkspaceResponse:
        request = pb.DeleteWorkspaceRequest(workspace_id=workspace, **flags)
        return await self.service.DeleteWorkspace(request, by(OPERATOR))

    async def register(
        self, workspace: str, principal: Principal = OPERATOR, **fields: Any
    ) -> pb.RegisterResponse:
        request = pb.RegisterRequest(id=workspace, **fields)
        request.agent_card.string_value = "card"
        return await self.service.Register(request, by(principal))

    async def status(self, workspace: str) -> str | None:
        return await self.pool.fetchval("SELECT status FROM workspaces WHERE id = $1", workspace)

    async def live_tokens(self, workspace: str) -> int:
        return await self.pool.fetchval(
            "SELECT count(*) FROM workspace_auth_tokens"
            " WHERE workspace_id = $1 AND revoked_at IS NULL",
            workspace,
        )

    async def _beat(self, workspace_id: UUID, delegation_ids: list[str]) -> None:
        self.beaten.append((workspace_id, delegation_ids))

    async def _purge(self, conn: Connection, workspace_ids: list[UUID]) -> None:
        assert await conn.fetchval("SELECT count(*) FROM workspaces") > 0
        self.purged.extend(workspace_ids)


def by(principal: Principal) -> Call:
    return Call(metadata={}, request_id="test", principal=principal)


@pytest.fixture
async def bench(pool: Pool, database_url: str) -> AsyncIterator[Bench]:
    chosen = Settings(deploy_mode="saas")
    async with Heartbeats(database_url, chosen) as heartbeats:
        yield Bench(pool, heartbeats, chosen)


async def add(pool: Pool, count: int = 1, **columns: Any) -> list[UUID]:
    """Rows as they may stand in an old database."""
    values: dict[str, Any] = {"organization_id": ORGANIZATION, "tier": 3, **columns}
    if values.get("status") == "failed":
        values.setdefault("last_sample_error", "why it failed")
    marks = ", ".join(f"${n}" for n in range(3, len(values) + 3))
    ids = [new_id() for _ in range(count)]
    await pool.executemany(
        f"INSERT INTO workspaces (id, name, {', '.join(values)}) VALUES ($1, $2, {marks})",
        [(one, str(one), *values.values()) for one in ids],
    )
    return ids


def judged(before: str, stored_rate: float, beat: Beat) -> str:
    """The status evaluation, rule by rule as the specification lists them."""
    rate = stored_rate if beat.error_rate is None else beat.error_rate
    if before == "online" and beat.wedged:
        return "degraded"
    if before == "online" and not beat.self_managed and rate >= 0.5:
        return "degraded"
    if before == "degraded" and not beat.self_managed and rate < 0.1 and beat.well:
        return "online"
    if before in ("offline", "provisioning", "awaiting_agent"):
        return "online"
    return before


@shared_database
@given(
    before=st.sampled_from([name for name in STATUSES if name != "removed"]),
    stored_rate=st.sampled_from([0.0, 0.09, 0.1, 0.3, 0.5, 1.0]),
    error_rate=st.sampled_from([None, 0.0, 0.09, 0.1, 0.49, 0.5, 1.0]),
    engine=st.sampled_from(["", "ok", "wedged", "busy"]),
    self_managed=st.booleans(),
)
async def test_heartbeat_moves_the_status_by_the_rules(
    pool: Pool,
    before: str,
    stored_rate: float,
    error_rate: float | None,
    engine: str,
    self_managed: bool,
) -> None:
    [workspace] = await add(pool, status=before, last_error_rate=stored_rate)
    beat = Beat(
        workspace_id=workspace,
        error_rate=error_rate,
        wedged=engine == "wedged",
        well=engine in ("", "ok"),
        self_managed=self_managed,
    )
    async with pool.acquire() as conn:
        [done] = await beats.beat(conn, [beat])
    assert not isinstance(done, NotFound)
    assert (done.before, done.after) == (before, judged(before, stored_rate, beat))


async def test_heartbeat_keeps_what_it_does_not_report(pool: Pool) -> None:
    [workspace] = await add(
        pool, status="online", active_tasks=2, current_task="x", monthly_spend=7, uptime_seconds=9,
        last_sample_error="e", last_error_rate=0.2,
    )  # fmt: skip
    async with pool.acquire() as conn:
        await beats.beat(conn, [Beat(workspace_id=workspace)])
    row = await pool.fetchrow("SELECT * FROM workspaces WHERE id = $1", workspace)
    kept = ("active_tasks", "current_task", "monthly_spend", "uptime_seconds", "last_sample_error")
    assert [row[name] for name in kept] == [2, "x", 7, 9, "e"]
    assert row["last_error_rate"] == 0.2
    assert row["last_heartbeat_at"] is not None


async def test_healthy_heartbeat_does_not_erase_why_provisioning_failed(pool: Pool) -> None:
    failed, online = (await add(pool, status="failed")) + (
        await add(pool, status="online", last_sample_error="old")
    )
    async with pool.acquire() as conn:
        await beats.beat(
            conn, [Beat(workspace_id=one, sample_error="") for one in (failed, online)]
        )
    reasons = await pool.fetch("SELECT last_sample_error FROM workspaces ORDER BY status")
    assert [row[0] for row in reasons] == ["", "why it failed"]


async def test_each_of_a_batch_gets_its_own_outcome(pool: Pool) -> None:
    """One that is gone does not fail its neighbours, and missing and removed are told apart."""
    [online], [removed] = await add(pool, status="online"), await add(pool, status="removed")
    batch = [Beat(workspace_id=one) for one in (removed, online, uuid4())]
    async with pool.acquire() as conn:
        gone, done, unknown = await beats.beat(conn, batch)
    assert isinstance(gone, NotFound)
    assert gone.reason == "WORKSPACE_REMOVED"
    assert not isinstance(done, NotFound)
    assert done.id == online
    assert isinstance(unknown, NotFound)
    assert unknown.reason == "WORKSPACE_NOT_FOUND"


async def test_inbound_secret_is_minted_once_and_then_told(bench: Bench) -> None:
    """W42: a NULL column heals on the first heartbeat, and stays as it is."""
    [workspace] = await add(bench.pool, status="online")
    request = pb.HeartbeatRequest(workspace_id=str(workspace))
    answers = await asyncio.gather(*(bench.service.heartbeat(request) for _ in range(5)))
    stored = await bench.pool.fetchval(
        "SELECT platform_inbound_secret FROM workspaces WHERE id = $1", workspace
    )
    assert len(stored) == 43
    assert {answer.platform_inbound_secret for answer in answers} == {stored}
    again = await bench.register(str(workspace), delivery_mode=workspace_pb2.Workspace.poll)
    assert again.platform_inbound_secret == stored


async def test_heartbeat_passes_on_the_delegations_it_names(bench: Bench) -> None:
    [workspace] = await add(bench.pool, status="online")
    request = pb.HeartbeatRequest(workspace_id=str(workspace), active_delegations=["a", "b"])
    await bench.service.Heartbeat(request, by(OPERATOR))
    assert bench.beaten == [(workspace, ["a", "b"])]


async def test_workers_that_beat_the_same_workspaces_do_not_lock_each_other_out(
    pool: Pool, database_url: str
) -> None:
    ids = await add(pool, 60, status="online")
    async with (
        Heartbeats(database_url, Settings()) as one,
        Heartbeats(database_url, Settings()) as other,
    ):
        rounds = [
            worker.beat(Beat(workspace_id=each, active_tasks=n))
            for n in range(5)
            for worker, order in ((one, ids), (other, ids[::-1]))
            for each in order
        ]
        touches = [other.touch_present(ids)]
        sweeps = [registry.sweep_silent(pool, 0.0, 0.0) for _ in range(3)]
        await asyncio.gather(*rounds, *touches, *sweeps)
    counts = await pool.fetchval(
        "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    )
    assert counts == 0


async def test_open_stream_counts_as_a_sign_of_life(bench: Bench) -> None:
    ids = {status: (await add(bench.pool, status=status))[0] for status in STATUSES}
    await bench.service.touch_present(list(ids.values()))
    rows = await bench.pool.fetch("SELECT id, status, last_heartbeat_at FROM workspaces")
    after = {row["id"]: row["status"] for row in rows}
    woken = {"offline", "awaiting_agent", "provisioning"}
    assert after == {one: "online" if status in woken else status for status, one in ids.items()}
    untouched = [row["id"] for row in rows if row["last_heartbeat_at"] is None]
    assert untouched == [ids["removed"]]


async def test_silent_workspaces_are_moved_once_however_many_sweep(pool: Pool) -> None:
    """An external one waits for its agent again, another is offline; who beats lately stays."""
    old = "now() - interval '100 seconds'"
    external = await add(pool, 3, status="online", runtime="external")
    await add(pool, 1, status="degraded", runtime="external")
    inside = await add(pool, 2, status="online", runtime="langgraph")
    for status in STATUSES:
        await add(pool, status=status, runtime="external")
    await pool.execute(f"UPDATE workspaces SET last_heartbeat_at = {old}")
    await pool.execute("UPDATE workspaces SET last_heartbeat_at = now() WHERE id = $1", external[0])
    await pool.execute(
        "UPDATE workspaces SET last_heartbeat_at = now() - interval '200 seconds' WHERE id = $1",
        inside[0],
    )
    untouched = "SELECT count(*) FROM workspaces WHERE status NOT IN ('awaiting_agent', 'offline')"
    before = await pool.fetchval(untouched)
    moved = await asyncio.gather(*(sweep_liveness(pool, Settings()) for _ in range(4)))
    # Two of the first three, the degraded one, one each from the run through all statuses.
    assert sum(moved) == 2 + 1 + 2 + 1
    assert await pool.fetchval(untouched) == before - sum(moved)
    statuses = dict(await pool.fetch("SELECT id, status FROM workspaces"))
    assert [statuses[one] for one in external] == ["online", "awaiting_agent", "awaiting_agent"]
    assert [statuses[one] for one in inside] == ["offline", "online"]


async def test_statuses_of_contract_and_database_are_the_same_ten(pool: Pool) -> None:
    """W28: all ten are accepted, another is not."""
    stored = await pool.fetchval("SELECT enum_range(NULL::workspace_status)::text[]")
    assert sorted(stored) == sorted(STATUSES)
    assert len(STATUSES) == 10
    with pytest.raises(asyncpg.InvalidTextRepresentationError):
        await pool.execute("SELECT 'expanded'::text::workspace_status")


async def test_a_failure_without_a_reason_cannot_be_stored(pool: Pool) -> None:
    for reason in (None, ""):
        with pytest.raises(asyncpg.CheckViolationError):
            await add(pool, status="failed", last_sample_error=reason)


# The tree.


async def add_organization(pool: Pool) -> UUID:
    organization = new_id()
    await pool.execute(
        "INSERT INTO organizations (id, slug, name) VALUES ($1, $2, $2)",
        organization,
        organization.hex,
    )
    return organization


def talk(parents: list[int | None], removed: set[int], a: int, b: int) -> bool:
    """The rule as the specification words it."""

    def above(one: int) -> set[int]:
        found: set[int] = set()
        parent = parents[one]
        while parent is not None and parent not in found:
            found.add(parent)
            parent = parents[parent]
        return found

    if a in removed or b in removed:
        return False
    return a == b or parents[a] == parents[b] or a in above(b) or b in above(a)


@shared_database
@given(
    parents=st.lists(st.one_of(st.none(), st.integers(0, 11)), min_size=2, max_size=12),
    removed=st.sets(st.integers(0, 11), max_size=3),
)
async def test_whoever_may_talk_may_also_answer(
    pool: Pool, parents: list[int | None], removed: set[int]
) -> None:
    """can(a, b) == can(b, a), and is what the rule says; on any shape, rings included."""
    parents = [
        None if parent is None or parent >= len(parents) or parent == one else parent
        for one, parent in enumerate(parents)
    ]
    organization = await add_organization(pool)
    ids = await add(pool, len(parents), organization_id=organization)
    await pool.executemany(
        "UPDATE workspaces SET parent_id = $2 WHERE id = $1",
        [(ids[one], ids[up]) for one, up in enumerate(parents) if up is not None],
    )
    await pool.execute(
        "UPDATE workspaces SET status = 'removed' WHERE id = ANY($1)",
        [ids[one] for one in removed if one < len(ids)],
    )
    directory = Directory(pool)
    pairs = [(a, b) for a in range(len(ids)) for b in range(len(ids))]
    found = [await directory.can_communicate(ids[a], ids[b]) for a, b in pairs]
    assert found == [talk(parents, removed, a, b) for a, b in pairs]
    assert found == [await directory.can_communicate(ids[b], ids[a]) for a, b in pairs]


async def test_the_ends_of_the_deepest_tree_may_talk(pool: Pool) -> None:
    chain = await add(pool, 51)
    await pool.executemany(
        "UPDATE workspaces SET parent_id = $2 WHERE id = $1",
        list(zip(chain[1:], chain, strict=False)),
    )
    directory = Directory(pool)
    assert await directory.can_communicate(chain[0], chain[49])
    assert await directory.can_communicate(chain[49], chain[0])


async def test_roots_of_two_organizations_are_strangers(pool: Pool) -> None:
    [ours] = await add(pool)
    [theirs] = await add(pool, organization_id=await add_organization(pool))
    directory = Directory(pool)
    assert not await directory.can_communicate(ours, theirs)
    with pytest.raises(NotFound):
        await directory.require_reachable(ours, theirs)


async def test_unknown_and_removed_read_the_same_and_cousins_are_refused(pool: Pool) -> None:
    [root], [removed] = await add(pool), await add(pool, status="removed")
    uncles = await add(pool, 2, parent_id=root)
    [cousin] = await add(pool, parent_id=uncles[0])
    directory = Directory(pool)
    texts = set()
    for target in (removed, uuid4()):
        with pytest.raises(NotFound) as caught:
            await directory.require_reachable(root, target)
        texts.add((caught.value.message, caught.value.reason))
    assert texts == {("workspace not found", "WORKSPACE_NOT_FOUND")}
    with pytest.raises(Denied) as denied:
        await directory.require_reachable(cousin, uncles[1])
    assert denied.value.reason == "NOT_RELATED"
    assert (await directory.require_reachable(cousin, root)).id == root


@pytest.mark.parametrize(
    ("stored", "runtime", "mode"),
    [(None, "external", "poll"), (None, "hermes", "push"), ("poll", "hermes", "poll")],
)
async def test_rows_of_old_installations_have_a_mode(
    pool: Pool, stored: str | None, runtime: str, mode: str
) -> None:
    """W61: a NULL delivery mode is read as what the runtime needs."""
    [workspace] = await add(pool, delivery_mode=stored, runtime=runtime)
    facts = await Directory(pool).lookup(workspace)
    assert facts is not None
    assert facts.delivery_mode == mode


async def test_peers_are_siblings_children_and_parent(bench: Bench) -> None:
    """W18: a child made with `parent_id` appears under its parent, by no other means."""
    root = await bench.create("root")
    a, b = await bench.create("a", root), await bench.create("b", root)
    child, cousin = await bench.create("c", a), await bench.create("d", b)
    await bench.delete(await bench.create("gone", root))
    await bench.create("other root")

    async def peers(workspace: str, q: str = "") -> list[str]:
        request = pb.ListPeersRequest(workspace_id=workspace, q=q)
        return [peer.name for peer in (await bench.service.ListPeers(request, by(OPERATOR))).peers]

    assert await peers(root) == ["a", "b", "other root"]
    assert await peers(a) == ["b", "c", "root"]
    assert await peers(child) == ["a"]
    assert await peers(cousin) == ["b"]
    assert await peers(a, "O") == ["root"]
    assert await peers(a, "%") == []
    assert await peers(a, "\x00") == ["b", "c", "root"]


async def test_only_one_of_many_gets_the_name(bench: Bench) -> None:
    results = await asyncio.gather(
        *(bench.create("same") for _ in range(8)), return_exceptions=True
    )
    refused = [one for one in results if isinstance(one, AlreadyExists)]
    assert len(refused) == 7
    assert {one.reason for one in refused} == {"WORKSPACE_NAME_TAKEN"}
    winner = next(one for one in results if isinstance(one, str))
    await bench.delete(winner)
    assert await bench.create("same") != winner


@pytest.mark.parametrize("purge", [False, True])
async def test_no_child_is_left_alive_below_a_removed_parent(bench: Bench, purge: bool) -> None:
    """Children are born while the whole branch is removed: each is refused, or goes too."""
    for turn in range(12):
        root = await bench.create(f"root {turn}")
        middle = await bench.create("middle", root)
        births = [bench.create(f"child {n}", middle) for n in range(6)]
        await asyncio.gather(
            *births[:3],
            bench.delete(root, confirm=True, purge=purge),
            *births[3:],
            return_exceptions=True,
        )
    orphans = await bench.pool.fetchval(
        """
        SELECT count(*) FROM workspaces c LEFT JOIN workspaces p ON p.id = c.parent_id
        WHERE c.status <> 'removed' AND c.parent_id IS NOT NULL
          AND (p.id IS NULL OR p.status = 'removed')
        """
    )
    assert orphans == 0


async def test_moves_at_the_same_time_never_close_a_ring(bench: Bench) -> None:
    ids = [await bench.create(f"w{n}") for n in range(5)]
    for _ in range(6):
        await asyncio.gather(
            *(bench.move(a, b) for a, b in zip(ids, ids[1:] + ids[:1], strict=True)),
            *(bench.move(b, a) for a, b in zip(ids, ids[2:] + ids[:2], strict=True)),
            return_exceptions=True,
        )
        async with bench.pool.acquire() as conn:
            for one in ids:
                branch = await tree.branch(conn, ORGANIZATION, UUID(one))
                assert len(branch) == len(set(branch))


async def test_parent_that_may_not_be(bench: Bench) -> None:
    """Itself, what is below it, a removed one, one of another organisation, one that is not."""
    root = await bench.create("root")
    child = await bench.create("child", await bench.create("middle", root))
    removed = await bench.create("removed")
    await bench.delete(removed)
    organization = str(await add_organization(bench.pool))
    foreign = await bench.create("foreign", organization=organization)
    for parent in (root, child, removed, foreign, str(uuid4())):
        with pytest.raises(Invalid) as caught:
            await bench.move(root, parent)
        assert caught.value.reason == "PARENT_INVALID"
    for parent in (removed, foreign, str(uuid4())):
        with pytest.raises(Invalid) as caught:
            await bench.create("new", parent)
        assert caught.value.reason == "PARENT_INVALID"


async def test_tree_has_at_most_fifty_levels(bench: Bench) -> None:
    chain = await add(bench.pool, 50)
    await bench.pool.executemany(
        "UPDATE workspaces SET parent_id = $2 WHERE id = $1",
        list(zip(chain[1:], chain, strict=False)),
    )
    await bench.create("fits", str(chain[48]))
    for attempt in (
        bench.create("too deep", str(chain[49])),
        bench.move(str(chain[0]), await bench.create("above")),
    ):
        with pytest.raises(Conflict) as caught:
            await attempt
        assert caught.value.reason == "TREE_TOO_DEEP"


# Removing.


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
    for attempt in (bench.service.heartbeat(request), bench.register(workspace)):
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


async def test_an_error_of_the_purge_leaves_everything_as_it_was(bench: Bench) -> None:
    workspace = await bench.create("w")

    async def fail(conn: Connection, workspace_ids: list[UUID]) -> None:
        raise RuntimeError("boom")

    bench.service._lifecycle._on_purge = fail
    with pytest.raises(RuntimeError):
        await bench.delete(workspace, purge=True)
    assert await bench.status(workspace) == "awaiting_agent"
    assert await bench.live_tokens(workspace) == 1
    assert bench.woken == []


# Registering.


async def test_first_registrations_at_once_share_one_token(bench: Bench) -> None:
    [workspace] = await add(bench.pool, runtime="external")
    answers = await asyncio.gather(*(bench.register(str(workspace)) for _ in range(6)))
    assert len([one for one in answers if one.auth_token]) == 1
    assert await bench.live_tokens(str(workspace)) == 1


@pytest.mark.parametrize("status", [name for name in STATUSES if name != "removed"])
async def test_registering_brings_online_what_nobody_stopped(bench: Bench, status: str) -> None:
    [workspace] = await add(bench.pool, status=status, runtime="external")
    await bench.register(str(workspace))
    row = await bench.pool.fetchrow("SELECT * FROM workspaces WHERE id = $1", workspace)
    stopped = ("paused", "hibernating", "hibernated")
    assert row["status"] == (status if status in stopped else "online")
    assert row["last_sample_error"] is None


async def test_unknown_id_is_created_for_administrators_only(bench: Bench) -> None:
    organization = await add_organization(bench.pool)
    admin = Principal(Role.ORGANIZATION, organization_id=organization)
    name = str(uuid4())
    answer = await bench.register(name, admin, delivery_mode=workspace_pb2.Workspace.poll)
    assert len(answer.auth_token) == 43
    row = await bench.pool.fetchrow("SELECT * FROM workspaces WHERE id = $1", name)
    assert (row["organization_id"], row["name"], row["runtime"], row["status"]) == (
        organization, name, "external", "online",
    )  # fmt: skip
    with pytest.raises(Unauthenticated):
        await bench.register(str(uuid4()), ANONYMOUS)


@pytest.mark.parametrize(
    ("stored", "runtime", "fields", "mode", "url"),
    [
        (None, "external", {}, "poll", ""),
        ("push", "external", {"url": "http://10.1.1.1"}, "push", "http://10.1.1.1"),
        ("poll", "external", {"url": "http://10.1.1.1"}, "poll", ""),
        ("push", "external", {"url": "remote://no-inbound"}, "poll", ""),
        ("push", "hermes", {"delivery_mode": workspace_pb2.Workspace.poll}, "poll", ""),
    ],
)
async def test_registering_settles_the_mode(
    bench: Bench, stored: str | None, runtime: str, fields: dict[str, Any], mode: str, url: str
) -> None:
    """W61, Q2: stated, else stored, else by runtime; in poll mode no URL is kept."""
    [workspace] = await add(bench.pool, delivery_mode=stored, runtime=runtime)
    answer = await bench.register(str(workspace), **fields)
    assert workspace_pb2.Workspace.DeliveryMode.Name(answer.delivery_mode) == mode
    row = await bench.pool.fetchrow("SELECT url, delivery_mode FROM workspaces")
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
    chosen = Settings(open_registration=True)
    [workspace] = await add(pool, runtime="external")
    async with Heartbeats(database_url, chosen) as heartbeats:
        bench = Bench(pool, heartbeats, chosen)
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
    row = await bench.pool.fetchrow("SELECT name, tier FROM workspaces WHERE id = $1", workspace)
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
    one = await pool.fetchrow("SELECT * FROM workspaces LIMIT 1")
    start = (workspaces._BEGINNING, UUID(int=0))
    statements: list[tuple[str, tuple[object, ...]]] = [
        (tree._PAIR, (one["id"], one["id"])),
        (tree._PEERS, (one["id"], "")),
        (tree._FAMILY, (one["id"],)),
        (workspaces._LIST_OF_ORGANIZATION, (*start, 10_000, one["organization_id"])),
        (workspaces._LIST_ALL, (*start, 100)),
        (registry._SWEEP, (90.0, 180.0)),
        (beats._TOUCH, ([one["id"]],)),
        (
            beats._BEAT,
            (*([each] for each in beats._values(Beat(workspace_id=one["id"]))), 0.5, 0.1),
        ),
    ]
    for statement, arguments in statements:
        lines = await pool.fetch(f"EXPLAIN {statement}", *arguments)
        plan = "\n".join(line[0] for line in lines)
        assert "Seq Scan on workspaces" not in plan, plan
