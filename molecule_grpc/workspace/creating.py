"""Adding a workspace with place, secrets, files and token, in one transaction."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import NamedTuple, TypeAlias
from uuid import UUID

from molecule_grpc.auth.principal import Principal, Role
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.egress import Egress
from molecule_grpc.kernel.errors import Denied
from molecule_grpc.quotas import Quota
from molecule_grpc.workspace import drafts, rules
from molecule_grpc.workspace.connecting.details import ConnectionDetails, connection_details
from molecule_grpc.workspace.connecting.first_token import first_token
from molecule_grpc.workspace.drafts import NewWorkspace
from molecule_grpc.workspace.scope import scope
from molecule_grpc.workspace.status import Status
from molecule_grpc.workspace.store import workspaces
from molecule_grpc.workspace.store.rows import WorkspaceDraft
from molecule_grpc.workspace.subscriptions import Configuration, Subscriptions
from molecule_grpc.workspace.tree import placement

# Stores more with a new workspace, in its transaction: ids of its organisation and of itself.
Also: TypeAlias = Callable[[Connection, UUID, UUID], Awaitable[None]]


class Created(NamedTuple):
    """A new workspace.

    Args:
        reason: why it failed at once; empty where it did not.
        connection: with the first token; None unless the workspace awaits its agent.
        initial_memories: how many of those asked for are stored.
    """

    id: UUID
    status: Status
    external: bool
    workspace_access: str = rules.NO_ACCESS
    reason: str = ""
    connection: ConnectionDetails | None = None
    initial_memories: int = 0


class Creation:
    """Adds workspaces.

    Args:
        egress: checks the URLs of agents.
        default_tier: the size class of a workspace that names none.
        quota: of the live workspaces of an organisation.
        subscriptions: start what is not external, and keep secrets and memories.
        tell_readers: wakes the readers of the feed of events.
    """

    def __init__(
        self,
        pool: Pool,
        subscriptions: Subscriptions,
        *,
        egress: Egress,
        default_tier: int,
        quota: Quota,
        tell_readers: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._subscriptions = subscriptions
        self._egress = egress
        self._default_tier = default_tier
        self._quota = quota
        self._tell_readers = tell_readers

    async def create(
        self,
        principal: Principal,
        wanted: NewWorkspace,
        platform_url: str = "",
        also: Also | None = None,
    ) -> Created:
        """Add a workspace; an external one without a URL is told how to connect.

        Args:
            platform_url: where agents connect to; empty where nobody reads the connection.
            also: what else to store in the transaction. An error undoes the workspace.

        Raises:
            Denied: PERMISSION_DENIED: a directory of the host, and the caller is not the operator.
            NotFound: ORGANIZATION_NOT_FOUND.
            Invalid: a field breaks its rule; URL_NOT_ALLOWED or PARENT_INVALID.
            Conflict: TREE_TOO_DEEP.
            AlreadyExists: WORKSPACE_NAME_TAKEN.
            Exhausted: QUOTA_EXCEEDED: the organisation has as many workspaces as it may, or there
                are too many secrets.
        """
        if wanted.workspace_access != rules.NO_ACCESS and principal.role is not Role.OPERATOR:
            raise Denied("only the operator may let a workspace into a directory of the host")
        home = placement.home(wanted.organization_id, scope(principal))
        starter = self._subscriptions.starter
        wanted, configuration = await self._configured(wanted)
        draft = drafts.draft(wanted, home, self._default_tier, can_start=starter is not None)
        if draft.url:
            await self._egress.check(draft.url, localhost_by_name=True)
        async with self._pool.acquire() as conn, conn.transaction():
            connection = await self._insert(conn, draft, wanted, platform_url)
            if configuration is not None:
                await configuration.store(conn, draft.organization_id, draft.id)
            if also is not None:
                await also(conn, draft.organization_id, draft.id)
            if starter is not None and draft.status is Status.PROVISIONING:
                await starter.start(conn, draft.id, draft.organization_id)
        if starter is not None:
            starter.announce()
        self._tell_readers()
        stored = await self._subscriptions.created(draft.id, wanted.initial_memories)
        return Created(
            id=draft.id,
            status=draft.status,
            external=draft.runtime == rules.EXTERNAL,
            workspace_access=draft.workspace_access,
            reason=draft.last_sample_error or "",
            connection=connection,
            initial_memories=stored,
        )

    async def _configured(self, wanted: NewWorkspace) -> tuple[NewWorkspace, Configuration | None]:
        """The draft with its template's values and files; imports bring files of their own."""
        configurer = self._subscriptions.configurer
        if configurer is None or wanted.imported or drafts.is_external(wanted):
            return wanted, None
        configuration = await configurer.configure(
            name=wanted.name,
            role=wanted.role,
            tier=wanted.tier,
            runtime=wanted.runtime,
            model=wanted.model,
            template=wanted.template,
        )
        chosen = dataclasses.replace(
            wanted, runtime=configuration.runtime, model=configuration.model
        )
        return chosen, configuration

    async def _insert(
        self, conn: Connection, draft: WorkspaceDraft, wanted: NewWorkspace, platform_url: str
    ) -> ConnectionDetails | None:
        """Insert the row, its place and its secrets. Returns how the agent connects."""
        await placement.require_room(conn, draft)
        await workspaces.require_quota(conn, draft.organization_id, self._quota)
        await workspaces.insert(conn, draft)
        if wanted.place is not None:
            await workspaces.place(conn, draft.id, drafts.check_first_place(wanted.place))
        await self._subscriptions.store_secrets(
            conn, draft.organization_id, draft.id, wanted.secrets
        )
        if draft.status is not Status.AWAITING_AGENT or not platform_url:
            return None
        token = await first_token(conn, draft.id)
        return connection_details(platform_url, draft.id, token)
