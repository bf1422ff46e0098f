"""Agents register as workspaces, and replace their cards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import UUID

from molecule_grpc.auth import store as tokens
from molecule_grpc.auth.principal import Principal, Role
from molecule_grpc.auth.tokens import mint
from molecule_grpc.db.pool import Connection, Pool
from molecule_grpc.directory import DEFAULT_ORGANIZATION
from molecule_grpc.egress import Egress
from molecule_grpc.kernel.errors import Aborted, Invalid, Unauthenticated
from molecule_grpc.quotas import Quota
from molecule_grpc.workspace import drafts, rules
from molecule_grpc.workspace.cards import card_text
from molecule_grpc.workspace.refusals import missing, removed
from molecule_grpc.workspace.registry.store import registration as store
from molecule_grpc.workspace.scope import scope
from molecule_grpc.workspace.status import Status
from molecule_grpc.workspace.store import workspaces
from molecule_grpc.workspace.subscriptions import Subscriptions


class Announcement(NamedTuple):
    """What an agent announces of itself.

    Args:
        card: any JSON, as `json.loads` returns it.
        url: where it listens; of scheme `remote:` or empty when it cannot be called.
        delivery_mode: `push` or `poll`; empty for what was stated earlier, or what the URL means.
    """

    workspace_id: UUID
    card: Any
    url: str = ""
    delivery_mode: str = ""


class Registered(NamedTuple):
    """What an agent is told.

    Args:
        delivery_mode: the one in force.
        auth_token: empty unless no token was live.
        inbound_secret: what the platform presents when it calls the agent.
    """

    delivery_mode: str
    auth_token: str
    inbound_secret: str


class Registration:
    """Keeps what agents announce.

    Args:
        egress: checks the URLs of agents.
        default_tier: the size class of a workspace that a registration creates.
        open_to_strangers: whether a caller without a token may register a workspace without one.
        quota: of the live workspaces of an organisation.
        subscriptions: told of registrations.
        tell_readers: wakes the readers of the feed of events.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        egress: Egress,
        default_tier: int,
        open_to_strangers: bool,
        quota: Quota,
        subscriptions: Subscriptions,
        tell_readers: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._egress = egress
        self._default_tier = default_tier
        self._open_to_strangers = open_to_strangers
        self._quota = quota
        self._subscriptions = subscriptions
        self._tell_readers = tell_readers

    async def register(self, principal: Principal, announced: Announcement) -> Registered:
        """Store what an agent announces; give it a token if none is live.

        Raises:
            Unauthenticated: the caller may not register this workspace.
            NotFound: WORKSPACE_NOT_FOUND or WORKSPACE_REMOVED.
            Invalid: the card or the URL breaks its rule.
            Aborted: somebody else created the workspace meanwhile.
            Exhausted: QUOTA_EXCEEDED: the organisation has as many workspaces as it may.
        """
        workspace_id = announced.workspace_id
        before = await store.registrant(self._pool, workspace_id)
        self._admit(principal, workspace_id, before)
        card = card_text(announced.card)
        url, mode = await self._reach(announced, before)
        async with self._pool.acquire() as conn, conn.transaction():
            if before is None:
                await self._create(conn, workspace_id, principal)
            secret = await store.register(
                conn,
                workspace_id,
                scope(principal),
                card=card,
                url=url,
                mode=mode.stated,
                secret=mint().text,
            )
            if secret is None:  # removed since it was looked up
                raise removed()
            token = await self._first_token(conn, workspace_id, principal)
        self._tell_readers()
        self._subscriptions.registered(workspace_id)
        return Registered(mode.in_force, token, secret)

    async def update_card(self, workspace_id: UUID, within: UUID | None, card: Any) -> None:
        """Replace an agent's card by this JSON.

        Args:
            within: the only organisation that the workspace may be of; None for any.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
            Invalid: the card breaks its rule.
        """
        if not await store.update_card(self._pool, workspace_id, within, card_text(card)):
            raise missing()
        self._tell_readers()

    def _admit(
        self, principal: Principal, workspace_id: UUID, before: store.Registrant | None
    ) -> None:
        """Raise unless this caller may register this workspace."""
        stranger = principal.role is Role.ANONYMOUS and principal.revoked_workspace != workspace_id
        # Before anything tells whether the row exists.
        if stranger and (before is None or before.has_token or not self._open_to_strangers):
            raise _no_token()
        if before is None and not principal.administers:
            raise missing()
        if before is not None and scope(principal) not in (None, before.organization_id):
            raise missing()
        if before is not None and before.status == Status.REMOVED:
            raise removed()

    async def _reach(
        self, announced: Announcement, before: store.Registrant | None
    ) -> tuple[str, rules.RegisteredMode]:
        """URL and mode. In poll mode and from a container a URL means nothing and is not kept."""
        mode = rules.registered_mode(
            announced.delivery_mode,
            before.delivery_mode if before else None,
            announced.url,
            before.runtime if before else rules.EXTERNAL,
        )
        if mode.in_force == rules.POLL or (before is not None and before.engine_url):
            return "", mode
        url = "" if rules.is_remote(announced.url) else announced.url.strip()
        if not url:
            raise Invalid("url is required for push-mode workspaces", field="url")
        await self._egress.check(url, localhost_by_name=True)
        return url, mode

    async def _create(self, conn: Connection, workspace_id: UUID, principal: Principal) -> None:
        """The row of an agent that registers under an id that nobody has yet."""
        organization_id = scope(principal) or DEFAULT_ORGANIZATION
        await workspaces.require_quota(conn, organization_id, self._quota)
        newcomer = drafts.newcomer(workspace_id, organization_id, self._default_tier)
        if not await workspaces.insert(conn, newcomer):
            raise Aborted("the workspace was created meanwhile, try again")

    async def _first_token(self, conn: Connection, workspace_id: UUID, principal: Principal) -> str:
        """A token where none is live; empty elsewhere, since registering never rotates."""
        if await tokens.count_workspace_tokens(conn, workspace_id):
            if principal.role is Role.ANONYMOUS:  # somebody was faster
                raise _no_token()
            return ""
        _, secret = await tokens.mint_workspace_token(conn, workspace_id)
        return secret.text


def _no_token() -> Unauthenticated:
    return Unauthenticated("missing workspace auth token")
