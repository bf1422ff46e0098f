"""The tokens of workspaces, and how to connect an external agent with one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple, cast
from uuid import UUID

from molecule_grpc.auth import store as tokens
from molecule_grpc.auth.store import TokenRow
from molecule_grpc.auth.tokens import TokenTerms
from molecule_grpc.db.pool import Pool
from molecule_grpc.directory import Directory
from molecule_grpc.events import store as event_store
from molecule_grpc.events.names import EventType
from molecule_grpc.events.store import Event
from molecule_grpc.kernel.errors import NotFound
from molecule_grpc.kernel.page import Page, page_of
from molecule_grpc.kernel.page_tokens import PageTokens
from molecule_grpc.quotas import Quota
from molecule_grpc.workspace.connecting.details import (
    ConnectionDetails,
    connection_details,
    require_external,
)
from molecule_grpc.workspace.refusals import missing
from molecule_grpc.workspace.status import Status
from molecule_grpc.workspace.store import workspaces

_DEFAULT_LISTED = 50
_LISTING = "tokens"


class MintedToken(NamedTuple):
    """A new token. Its text is told once and not stored."""

    row: TokenRow
    text: str


class Tokens:
    """Lists, mints and revokes tokens.

    `within` is the only organisation whose workspaces the caller may act as; None for any.

    Args:
        quota: of the live tokens of a workspace.
        tell_readers: wakes the readers of the feed of events.
    """

    def __init__(
        self,
        pool: Pool,
        directory: Directory,
        page_tokens: PageTokens,
        quota: Quota,
        tell_readers: Callable[[], None],
    ) -> None:
        self._pool = pool
        self._page_tokens = page_tokens
        self._quota = quota
        self._directory = directory
        self._tell_readers = tell_readers

    async def list_live(
        self,
        workspace_id: UUID,
        within: UUID | None,
        *,
        limit: int,
        offset: int,
        page_token: str,
    ) -> Page[TokenRow]:
        """Live tokens, newest first.

        Args:
            limit: most tokens of the page; 0 means 50.
            offset: tokens to skip, unless there is a page token.
            page_token: from the page before; empty for the first page.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
            Invalid: the page token is not one of ours.
        """
        place = self._page_tokens.read(_LISTING, page_token, datetime, UUID)
        await self._require_live(workspace_id, within)
        limit = limit or _DEFAULT_LISTED
        rows = await tokens.list_workspace_tokens(
            self._pool,
            workspace_id,
            limit=limit + 1,
            offset=offset if place is None else 0,
            before=None if place is None else cast("tuple[datetime, UUID]", tuple(place)),
        )
        return page_of(rows, limit=limit)

    def token_after(self, row: TokenRow) -> str:
        """The token of the page of `list_live` that begins behind a token."""
        return self._page_tokens.make(_LISTING, row.created_at, row.id)

    async def create(
        self, workspace_id: UUID, within: UUID | None, terms: TokenTerms
    ) -> MintedToken:
        """Mint a token.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
            Exhausted: TOO_MANY_TOKENS: as many are live as the quota permits.
        """
        async with self._pool.acquire() as conn, conn.transaction():
            if await workspaces.lock_live(conn, workspace_id, within) is None:
                raise missing()
            await tokens.require_token_room(conn, workspace_id, self._quota)
            row, secret = await tokens.mint_workspace_token(conn, workspace_id, terms)
        return MintedToken(row, secret.text)

    async def revoke(self, workspace_id: UUID, within: UUID | None, token_id: UUID) -> None:
        """End a token.

        Raises:
            NotFound: TOKEN_NOT_FOUND: not live, or of another workspace.
        """
        async with self._pool.acquire() as conn, conn.transaction():
            if not await tokens.revoke_workspace_token(conn, workspace_id, within, token_id):
                raise NotFound("token not found", reason="TOKEN_NOT_FOUND")

    async def connection(
        self, workspace_id: UUID, within: UUID | None, platform_url: str
    ) -> ConnectionDetails:
        """How to connect, without a token.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
            Conflict: RUNTIME_NOT_EXTERNAL.
        """
        info = await self._directory.lookup(workspace_id)
        if info is None or within not in (None, info.organization_id):
            raise missing()
        require_external(workspace_id, info.runtime)
        return connection_details(platform_url, workspace_id)

    async def rotate(
        self, workspace_id: UUID, within: UUID | None, platform_url: str, terms: TokenTerms
    ) -> ConnectionDetails:
        """Revoke all tokens of an external workspace and mint one, in one transaction.

        In two, a stranger could register as the workspace while no token is live.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
            Conflict: RUNTIME_NOT_EXTERNAL.
        """
        async with self._pool.acquire() as conn, conn.transaction():
            held = await workspaces.lock_live(conn, workspace_id, within)
            if held is None:
                raise missing()
            require_external(workspace_id, held.runtime)
            await tokens.revoke_workspace_tokens(conn, [workspace_id])
            _, secret = await tokens.mint_workspace_token(conn, workspace_id, terms)
            connection = connection_details(platform_url, workspace_id, secret.text)
            rotated = Event.of(
                EventType.EXTERNAL_CREDENTIALS_ROTATED, held.organization_id, workspace_id
            )
            await event_store.keep(conn, [rotated])
        self._tell_readers()
        return connection

    async def _require_live(self, workspace_id: UUID, within: UUID | None) -> None:
        row = await workspaces.get(self._pool, workspace_id, within)
        if row is None or row.status == Status.REMOVED:
            raise missing()
