"""Tokens on real Postgres: who is who, what is remembered, and how fast it is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest
from moleculeai.delegation.v1 import delegation_service_pb2 as delegation
from moleculeai.workspace.v1 import workspace_service_pb2 as workspace

from molecule_grpc.auth import policy, store
from molecule_grpc.auth.authenticator import Authenticator
from molecule_grpc.auth.principal import ANONYMOUS, OPERATOR, Principal, Role
from molecule_grpc.auth.tokens import Secret, mint
from molecule_grpc.db.listener import Listener
from molecule_grpc.db.pool import Pool, connect_pool
from molecule_grpc.directory import DEFAULT_ORGANIZATION
from molecule_grpc.kernel.errors import Invalid, NotFound, Unauthenticated, Unavailable
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.settings.settings import Settings
from tests.integration.agents import someone_waits
from tests.settings import settings_of
from tests.waiting import PATIENCE, until

ADMIN_TOKEN = "from-the-environment"
STRANGERS_WELCOME = policy.may_be_unknown("id")


@dataclass(frozen=True, slots=True)
class Agent:
    """A workspace and a token of it."""

    workspace_id: UUID
    organization_id: UUID
    token_id: UUID
    secret: Secret

    @property
    def header(self) -> str:
        return bearer(self.secret)


@pytest.fixture
def authenticator(pool: Pool) -> Authenticator:
    return Authenticator(pool, Settings().auth)


@pytest.fixture
async def agent(pool: Pool) -> Agent:
    return await an_agent(pool)


async def test_a_workspace_is_known_by_its_token(
    authenticator: Authenticator, agent: Agent
) -> None:
    principal = await authenticator.identify(policy.CALLER, agent.header)
    assert principal == Principal(
        Role.WORKSPACE,
        organization_id=agent.organization_id,
        workspace_id=agent.workspace_id,
        token_id=agent.token_id,
        prefix=agent.secret.prefix,
    )
    assert not principal.administers


async def test_an_organisation_is_known_by_its_token(
    pool: Pool, authenticator: Authenticator
) -> None:
    secret = await an_org_token(pool, DEFAULT_ORGANIZATION)
    principal = await authenticator.identify(policy.ADMIN, bearer(secret))
    assert (principal.role, principal.organization_id) == (Role.ORGANIZATION, DEFAULT_ORGANIZATION)
    assert principal.administers


async def insert_operator_token(pool: Pool, digest: bytes) -> bool:
    """As a start does: whether this token is the installation's."""
    async with pool.acquire() as connection:
        return await store.insert_operator_token(connection, digest)


async def test_the_operator_is_known_by_the_minted_token(
    pool: Pool, authenticator: Authenticator
) -> None:
    secret = mint()
    await insert_operator_token(pool, secret.digest)
    assert await authenticator.identify(policy.OPERATOR, bearer(secret)) is OPERATOR


async def test_the_token_in_the_environment_wins(pool: Pool) -> None:
    """With ADMIN_TOKEN set, the minted one is nobody's."""
    secret = mint()
    await insert_operator_token(pool, secret.digest)
    authenticator = Authenticator(pool, settings_of(auth_admin_token=ADMIN_TOKEN).auth)
    given = await authenticator.identify(policy.OPERATOR, f"Bearer {ADMIN_TOKEN}")
    assert given is OPERATOR
    with pytest.raises(Unauthenticated):
        await authenticator.identify(policy.OPERATOR, bearer(secret))


async def test_only_one_operator_token_is_ever_minted(pool: Pool) -> None:
    """Of two servers that start at once, one mints a token and the other none."""
    assert await insert_operator_token(pool, mint().digest)
    assert not await insert_operator_token(pool, mint().digest)


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer  "])
async def test_the_scheme_is_read_as_http_says(
    authenticator: Authenticator, agent: Agent, scheme: str
) -> None:
    header = f"{scheme} {agent.secret.text} "
    assert (await authenticator.identify(policy.CALLER, header)).workspace_id == agent.workspace_id


@pytest.mark.parametrize("text", ["x" * 43, "ü" * 40, "\udcff", "a b"])
async def test_a_wrong_token_is_nobodys_even_where_strangers_are_welcome(
    authenticator: Authenticator, text: str
) -> None:
    with pytest.raises(Unauthenticated, match="invalid workspace auth token"):
        await authenticator.identify(STRANGERS_WELCOME, f"Bearer {text}")


async def test_a_stranger_is_let_in_only_where_strangers_are_welcome(
    authenticator: Authenticator,
) -> None:
    assert await authenticator.identify(STRANGERS_WELCOME, None) is ANONYMOUS
    assert await authenticator.identify(policy.PUBLIC, "Bearer whatever") is ANONYMOUS
    with pytest.raises(Unauthenticated, match="missing workspace auth token"):
        await authenticator.identify(policy.CALLER, None)


async def test_development_lets_callers_without_a_token_pass_but_not_with_a_wrong_one(
    pool: Pool,
) -> None:
    authenticator = Authenticator(pool, Settings().auth, development=True)
    assert await authenticator.identify(policy.OPERATOR, None) is OPERATOR
    with pytest.raises(Unauthenticated):
        await authenticator.identify(policy.OPERATOR, "Bearer wrong")


async def test_bootstrap_ends_with_the_first_token(pool: Pool) -> None:
    authenticator = Authenticator(pool, settings_of(auth_open_bootstrap=True).auth)
    assert await authenticator.identify(policy.ADMIN, None) is OPERATOR
    await an_agent(pool)
    with pytest.raises(Unauthenticated, match="admin auth required"):
        await authenticator.identify(policy.ADMIN, None)


async def test_a_token_of_a_removed_workspace_is_a_strangers_who_may_hear_why(
    pool: Pool, authenticator: Authenticator, agent: Agent
) -> None:
    """Q4: its agent gets its 404 on /state instead of a 401 for ever."""
    await pool.execute("UPDATE workspaces SET status = 'removed' WHERE id = $1", agent.workspace_id)
    principal = await authenticator.identify(STRANGERS_WELCOME, agent.header)
    assert principal == Principal(Role.ANONYMOUS, revoked_workspace=agent.workspace_id)
    with pytest.raises(Unauthenticated):
        await authenticator.identify(policy.CALLER, agent.header)


# What is remembered.


async def test_a_token_is_looked_up_once(pool: Pool, agent: Agent) -> None:
    authenticator = Authenticator(pool, Settings().auth)
    first = await authenticator.identify(policy.CALLER, agent.header)
    await revoke(pool, agent, announce=False)
    assert await authenticator.identify(policy.CALLER, agent.header) is first


async def test_a_remembered_token_is_looked_up_again_after_a_while(
    pool: Pool, agent: Agent
) -> None:
    """A revocation that nobody heard of ends within the life of the memory."""
    authenticator = Authenticator(pool, settings_of(auth_token_cache_seconds=0.05).auth)
    await authenticator.identify(policy.CALLER, agent.header)
    await revoke(pool, agent, announce=False)
    await eventually_refused(authenticator, agent.header)


async def test_a_wrong_token_is_remembered_too(pool: Pool) -> None:
    """So that a client in a loop costs a statement every two seconds and not every call."""
    authenticator = Authenticator(pool, Settings().auth)
    secret = mint()
    with pytest.raises(Unauthenticated):
        await authenticator.identify(policy.CALLER, bearer(secret))
    await pool.execute(
        "INSERT INTO org_api_tokens (id, organization_id, token_hash, prefix, created_by)"
        " VALUES ($1, $2, $3, $4, 'test')",
        new_id(), DEFAULT_ORGANIZATION, secret.digest, secret.prefix,
    )  # fmt: skip
    with pytest.raises(Unauthenticated):
        await authenticator.identify(policy.CALLER, bearer(secret))
    authenticator.forget_all()
    known = await authenticator.identify(policy.CALLER, bearer(secret))
    assert known.organization_id == DEFAULT_ORGANIZATION


async def test_what_was_read_before_a_revocation_is_not_remembered(
    pool: Pool, agent: Agent
) -> None:
    """The word of a revocation overtakes the answer of a look-up that is on its way."""
    authenticator = Authenticator(pool, Settings().auth)
    looking = asyncio.create_task(authenticator.identify(policy.CALLER, agent.header))
    await asyncio.sleep(0)
    authenticator.forget(agent.secret.digest.hex())
    await looking
    await revoke(pool, agent, announce=False)
    with pytest.raises(Unauthenticated):
        await authenticator.identify(policy.CALLER, agent.header)


async def test_the_tokens_in_use_are_told_once(
    pool: Pool, authenticator: Authenticator, agent: Agent
) -> None:
    for _ in range(3):
        await authenticator.identify(policy.CALLER, agent.header)
    used = authenticator.take_used()
    await store.touch(pool, used)
    (row,) = await store.list_workspace_tokens(pool, agent.workspace_id, limit=10, offset=0)
    assert used == [agent.token_id]
    assert row.last_used_at is not None
    assert authenticator.take_used() == []


# How fast it is forgotten.


async def test_a_revocation_reaches_every_server_at_once(
    database_url: str, pool: Pool, agent: Agent
) -> None:
    """W14: by NOTIFY, long before what they remember expires."""
    async with server(database_url) as here, server(database_url) as there:
        ended = asyncio.Event()
        await here.identify(policy.CALLER, agent.header)
        await there.identify(policy.CALLER, agent.header)
        with there.watch(agent.header, ended.set):
            await revoke(pool, agent)
            async with asyncio.timeout(PATIENCE):
                await ended.wait()
        await eventually_refused(here, agent.header)
        with pytest.raises(Unauthenticated):
            await there.identify(policy.CALLER, agent.header)


async def test_a_revocation_ends_only_what_its_own_token_holds_open(
    authenticator: Authenticator, pool: Pool, agent: Agent
) -> None:
    other = await an_agent(pool)
    ended: list[str] = []
    with (
        authenticator.watch(agent.header, lambda: ended.append("agent")),
        authenticator.watch(other.header, lambda: ended.append("other")),
    ):
        authenticator.forget(agent.secret.digest.hex())
    authenticator.forget(other.secret.digest.hex())
    assert ended == ["agent"]


async def test_a_lost_listener_ends_only_what_was_revoked_meanwhile(
    pool: Pool, agent: Agent
) -> None:
    """Streams of tokens that are still good live through a restart of the database."""
    authenticator = Authenticator(pool, settings_of(auth_admin_token=ADMIN_TOKEN).auth)
    other = await an_agent(pool)
    organization = bearer(await an_org_token(pool, DEFAULT_ORGANIZATION))
    ended: list[str] = []
    with contextlib.ExitStack() as open_streams:
        for header in (agent.header, other.header, organization, f"Bearer {ADMIN_TOKEN}", None):
            end = functools.partial(ended.append, str(header))
            open_streams.enter_context(authenticator.watch(header, end))
        await revoke(pool, agent, announce=False)
        authenticator.forget_all()
        await authenticator.recheck()
        assert ended == [agent.header]


async def test_a_database_that_is_gone_is_no_reason_to_call_a_token_wrong(
    database_url: str, agent: Agent
) -> None:
    """An agent that hears 401 gives up; 503 makes it come back."""
    opened = await connect_pool(database_url, min_size=1, max_size=1)
    authenticator = Authenticator(opened, settings_of(auth_admin_token=ADMIN_TOKEN).auth)
    await opened.close()
    with pytest.raises(Unavailable) as caught:
        await authenticator.identify(policy.CALLER, agent.header)
    assert caught.value.reason == "DATABASE_UNAVAILABLE"
    assert await authenticator.identify(policy.CALLER, f"Bearer {ADMIN_TOKEN}") is OPERATOR


# As whom a known party may act.


async def test_a_workspace_acts_as_itself_only(authenticator: Authenticator, agent: Agent) -> None:
    principal = await authenticator.identify(policy.OWN, agent.header)
    await authenticator.require_access(policy.OWN, principal, peers_of(agent.workspace_id))
    with pytest.raises(Unauthenticated, match="invalid workspace auth token"):
        await authenticator.require_access(policy.OWN, principal, peers_of(uuid4()))


async def test_an_id_may_be_written_in_upper_case(
    authenticator: Authenticator, agent: Agent
) -> None:
    principal = await authenticator.identify(policy.OWN, agent.header)
    request = workspace.ListPeersRequest(workspace_id=str(agent.workspace_id).upper())
    await authenticator.require_access(policy.OWN, principal, request)


async def test_a_workspace_that_is_missing_reads_like_another_organisations(
    authenticator: Authenticator,
) -> None:
    """Except where an administrator may bring it into being."""
    principal = Principal(Role.ORGANIZATION, organization_id=DEFAULT_ORGANIZATION)
    with pytest.raises(NotFound, match="workspace not found"):
        await authenticator.require_access(policy.OWN, principal, peers_of(uuid4()))
    newcomer = workspace.RegisterRequest(id=str(uuid4()))
    await authenticator.require_access(STRANGERS_WELCOME, principal, newcomer)


async def test_an_organisation_acts_as_its_own_workspaces_only(
    pool: Pool, authenticator: Authenticator, agent: Agent
) -> None:
    """Another organisation's workspace is as good as missing."""
    secret = await an_org_token(pool, agent.organization_id)
    principal = await authenticator.identify(policy.OWN, bearer(secret))
    foreign = await an_agent(pool)
    await authenticator.require_access(policy.OWN, principal, peers_of(agent.workspace_id))
    with pytest.raises(NotFound, match="workspace not found"):
        await authenticator.require_access(policy.OWN, principal, peers_of(foreign.workspace_id))


@pytest.mark.parametrize("how", ["heard", "missed"])
async def test_a_purged_id_is_nobodys_at_every_worker(
    pool: Pool, database_url: str, agent: Agent, how: str
) -> None:
    """After a purge the old organisation may not act as the id, which another organisation took."""
    secret = await an_org_token(pool, agent.organization_id)
    request = peers_of(agent.workspace_id)
    async with server(database_url) as here, server(database_url) as there:
        principal = await here.identify(policy.OWN, bearer(secret))
        for each in (here, there):
            await each.require_access(policy.OWN, principal, request)
        async with pool.acquire() as conn, conn.transaction():
            await conn.execute("DELETE FROM workspaces WHERE id = $1", agent.workspace_id)
            await conn.execute(
                "INSERT INTO workspaces (id, organization_id, name, tier) VALUES ($1, $2, 'x', 3)",
                agent.workspace_id,
                DEFAULT_ORGANIZATION,
            )
            if how == "heard":
                await store.announce_purged(conn, [agent.workspace_id])
        for each in (here, there):
            if how == "missed":
                each.forget_all()
            await until(
                functools.partial(admitted, each, principal, request), lambda answer: not answer
            )


async def test_a_look_that_began_before_a_purge_is_not_remembered(
    pool: Pool, authenticator: Authenticator, agent: Agent
) -> None:
    principal = Principal(Role.ORGANIZATION, organization_id=agent.organization_id)
    request = peers_of(agent.workspace_id)
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute("LOCK TABLE workspaces")
        looking = asyncio.create_task(admitted(authenticator, principal, request))
        await someone_waits(pool)
        authenticator.forget_workspace(str(agent.workspace_id))
    assert await looking
    await pool.execute("DELETE FROM workspaces WHERE id = $1", agent.workspace_id)
    assert not await admitted(authenticator, principal, request)


async def admitted(
    authenticator: Authenticator, principal: Principal, request: workspace.ListPeersRequest
) -> bool:
    try:
        await authenticator.require_access(policy.OWN, principal, request)
    except NotFound:
        return False
    return True


async def test_a_stream_that_begins_with_the_wrong_frame_is_the_clients_fault(
    authenticator: Authenticator, agent: Agent
) -> None:
    """There is no workspace to compare with: a refusal, not a crash."""
    row = policy.POLICIES["/moleculeai.delegation.v1.DelegationService/SubscribeInbox"]
    frame = delegation.SubscribeInboxRequest(pong=delegation.SubscribeInboxRequest.Pong())
    for principal in (await authenticator.identify(row, agent.header), OPERATOR):
        with pytest.raises(Invalid):
            await authenticator.require_access(row, principal, frame)


def bearer(secret: Secret) -> str:
    return f"Bearer {secret.text}"


def peers_of(workspace_id: UUID) -> workspace.ListPeersRequest:
    return workspace.ListPeersRequest(workspace_id=str(workspace_id))


@contextlib.asynccontextmanager
async def server(dsn: str) -> AsyncIterator[Authenticator]:
    """An authenticator that hears of revocations."""
    pool = await connect_pool(dsn, min_size=1, max_size=2)
    authenticator = Authenticator(pool, Settings().auth)
    listening = asyncio.Event()
    channels = {
        store.CHANNEL: authenticator.forget,
        store.PURGED_CHANNEL: authenticator.forget_workspace,
    }
    listener = Listener(dsn, channels, missed=listening.set)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(listener.run())
        await listening.wait()
        try:
            yield authenticator
        finally:
            running.cancel()
            await pool.close()


async def an_agent(pool: Pool) -> Agent:
    """A workspace in an organisation of its own, and its token."""
    organization_id, workspace_id = new_id(), new_id()
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute(
            "INSERT INTO organizations (id, slug, name) VALUES ($1, $2, 'x')",
            organization_id, organization_id.hex,
        )  # fmt: skip
        await conn.execute(
            "INSERT INTO workspaces (id, organization_id, name, tier) VALUES ($1, $2, 'x', 3)",
            workspace_id, organization_id,
        )  # fmt: skip
        row, secret = await store.mint_workspace_token(conn, workspace_id)
    return Agent(workspace_id, organization_id, row.id, secret)


async def an_org_token(pool: Pool, organization_id: UUID) -> Secret:
    secret = mint()
    await pool.execute(
        "INSERT INTO org_api_tokens (id, organization_id, token_hash, prefix, created_by)"
        " VALUES ($1, $2, $3, $4, 'test')",
        new_id(), organization_id, secret.digest, secret.prefix,
    )  # fmt: skip
    return secret


async def revoke(pool: Pool, agent: Agent, *, announce: bool = True) -> None:
    if announce:
        async with pool.acquire() as conn, conn.transaction():
            assert await store.revoke_workspace_token(
                conn, agent.workspace_id, None, agent.token_id
            )
    else:
        await pool.execute(
            "UPDATE workspace_auth_tokens SET revoked_at = now() WHERE id = $1", agent.token_id
        )


async def eventually_refused(authenticator: Authenticator, header: str) -> None:
    """Ask until the token is refused."""
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(Unauthenticated):
            while True:
                await authenticator.identify(policy.CALLER, header)
                await asyncio.sleep(0.01)
