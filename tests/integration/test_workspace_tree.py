"""The tree on a real database: who may talk, and what stays true under concurrency."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moleculeai.workspace.v1 import workspace_service_pb2 as pb
from moleculeai.workspace.v1.workspace_pb2 import Peer

from molecule_grpc.auth.principal import OPERATOR
from molecule_grpc.db.pool import Pool
from molecule_grpc.kernel.errors import AlreadyExists, Conflict, Denied, Invalid, NotFound
from molecule_grpc.kernel.page_tokens import PageTokens
from molecule_grpc.workspace.store.workspaces import list_live
from molecule_grpc.workspace.tree import store as tree
from molecule_grpc.workspace.tree.directory import Directory
from molecule_grpc.workspace.tree.pairs import Pairs
from tests.integration.workspaces import (
    ORGANIZATION,
    Bench,
    add,
    add_organization,
    bench_of,
    by,
)

TOKENS = PageTokens(bytes(32))

shared_database = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None
)


@pytest.fixture
async def bench(pool: Pool, database_url: str) -> AsyncIterator[Bench]:
    async with bench_of(
        pool, database_url, deployment_deploy_mode="saas", egress_networks=("10.0.0.0/8",)
    ) as opened:
        yield opened


@pytest.fixture
async def directory(pool: Pool, database_url: str) -> AsyncIterator[Directory]:
    async with Pairs(database_url) as pairs:
        yield Directory(pool, TOKENS, pairs)


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
    directory: Directory, pool: Pool, parents: list[int | None], removed: set[int]
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
    pairs = [(a, b) for a in range(len(ids)) for b in range(len(ids))]
    found = [await directory.can_communicate(ids[a], ids[b]) for a, b in pairs]
    assert found == [talk(parents, removed, a, b) for a, b in pairs]
    assert found == [await directory.can_communicate(ids[b], ids[a]) for a, b in pairs]


async def test_the_ends_of_the_deepest_tree_may_talk(directory: Directory, pool: Pool) -> None:
    chain = await add(pool, 51)
    await pool.executemany(
        "UPDATE workspaces SET parent_id = $2 WHERE id = $1",
        list(zip(chain[1:], chain, strict=False)),
    )
    assert await directory.can_communicate(chain[0], chain[49])
    assert await directory.can_communicate(chain[49], chain[0])


async def test_roots_of_two_organizations_are_strangers(directory: Directory, pool: Pool) -> None:
    [ours] = await add(pool)
    [theirs] = await add(pool, organization_id=await add_organization(pool))
    assert not await directory.can_communicate(ours, theirs)
    with pytest.raises(NotFound):
        await directory.require_reachable(ours, theirs)


async def test_calls_of_one_moment_each_get_their_own_pair(
    database_url: str, directory: Directory, pool: Pool
) -> None:
    """One statement answers them all: the unknown, the strangers and the related."""
    siblings = await add(pool, 3)
    [stranger] = await add(pool, organization_id=await add_organization(pool))
    targets = [siblings[1], uuid4(), stranger, siblings[2], siblings[1]]
    found = await asyncio.gather(
        *(directory.require_reachable(siblings[0], target) for target in targets),
        return_exceptions=True,
    )
    assert [getattr(each, "id", type(each)) for each in found] == [
        siblings[1],
        NotFound,
        NotFound,
        siblings[2],
        siblings[1],
    ]


async def test_unknown_and_removed_read_the_same_and_cousins_are_refused(
    directory: Directory, pool: Pool
) -> None:
    [root], [removed] = await add(pool), await add(pool, status="removed")
    uncles = await add(pool, 2, parent_id=root)
    [cousin] = await add(pool, parent_id=uncles[0])
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
    ("stored", "runtime", "url", "mode"),
    [
        (None, "external", "", "poll"),
        (None, "external", "http://a", "push"),
        (None, "hermes", "", "push"),
        ("poll", "hermes", "", "poll"),
    ],
)
async def test_rows_without_a_stated_mode_have_one(
    directory: Directory, pool: Pool, stored: str | None, runtime: str, url: str, mode: str
) -> None:
    """W61: a NULL delivery mode is read as what URL and runtime need."""
    [workspace] = await add(pool, delivery_mode=stored, runtime=runtime, url=url)
    facts = await directory.lookup(workspace)
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


async def test_pages_of_peers_give_each_once(bench: Bench) -> None:
    """By rows and by bytes; names that sort alike in two sets are told apart by their ids."""
    root = await bench.create("m")
    me = await bench.create("me", root)
    names = ["a", "b", "m", "n", "z", "\u00e9", "\U0001f600" * 60]
    for parent in (root, me):
        for name in names:
            await bench.create(name, parent)
    everybody = [peer.name for peer in await all_peers(bench, me, limit=100)]
    assert len(everybody) == 2 * len(names) + 1
    for limit in (1, 2, 3):
        assert [peer.name for peer in await all_peers(bench, me, limit=limit)] == everybody
    found = await all_peers(bench, me, limit=1, q="M")
    assert [peer.name for peer in found] == ["m", "m", "m"]
    card = json.dumps({"x": "y" * 250_000})
    await bench.pool.execute("UPDATE workspaces SET agent_card = $1", card)
    assert [peer.name for peer in await all_peers(bench, me, limit=0)] == everybody
    page = await bench.service.ListPeers(pb.ListPeersRequest(workspace_id=me), by(OPERATOR))
    assert 10 < len(page.peers) < len(everybody)
    first = await bench.workspace.peers(UUID(me), "", len(everybody) - 1)
    assert [peer.name for peer in first] == everybody[:-1]


async def test_pages_count_the_bytes_of_roles_errors_and_tasks(bench: Bench) -> None:
    """An import may store roles of 16 KiB: two hundred of them are no page."""
    for number in range(12):
        await bench.create(f"w{number}")
    columns = {"role": 16, "last_sample_error": 8, "current_task": 8}
    for column, kib in columns.items():
        await bench.pool.execute(f"UPDATE workspaces SET {column} = repeat('x', {kib} * 1024)")
        page = await list_live(bench.pool, None, after=None, limit=12, max_bytes=60 * 1024)
        assert len(page.rows) == 60 * 1024 // (2000 + kib * 1024)
        assert page.more
        await bench.pool.execute(f"UPDATE workspaces SET {column} = ''")
    whole = await list_live(bench.pool, None, after=None, limit=12, max_bytes=60 * 1024)
    assert (len(whole.rows), whole.more) == (12, False)


async def test_the_token_of_one_list_is_refused_by_another(bench: Bench) -> None:
    root = await bench.create("root")
    await bench.create("other")
    call = by(OPERATOR)
    await bench.service.ListWorkspaces(pb.ListWorkspacesRequest(limit=1), call)
    token = call.headers["x-next-page-token"]
    request = pb.ListPeersRequest(workspace_id=root, page_token=token)
    with pytest.raises(Invalid) as refused:
        await bench.service.ListPeers(request, by(OPERATOR))
    assert "page_token" in refused.value.message


async def all_peers(bench: Bench, me: str, *, limit: int, q: str = "") -> list[Peer]:
    """Every peer, page by page."""
    found: list[Peer] = []
    request = pb.ListPeersRequest(workspace_id=me, q=q, limit=limit)
    while True:
        call = by(OPERATOR)
        page = await bench.service.ListPeers(request, call)
        assert page.peers
        found += page.peers
        request.page_token = call.headers.get("x-next-page-token", "")
        if not request.page_token:
            return found


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
    """The workspace itself, a descendant, a removed, a foreign and a missing workspace."""
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
