"""Organisations, and the tokens that administer them."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple, cast
from uuid import UUID

from molecule_grpc.admin import store
from molecule_grpc.admin.values import MintedOrgToken, Organization, OrgToken
from molecule_grpc.auth.principal import Principal, Role
from molecule_grpc.auth.store import live_org_tokens, mint_workspace_token, require_token_room
from molecule_grpc.auth.tokens import Secret, TokenTerms
from molecule_grpc.db.pool import Pool
from molecule_grpc.directory import DEFAULT_ORGANIZATION
from molecule_grpc.kernel.errors import AlreadyExists, NotFound
from molecule_grpc.kernel.page import page_of
from molecule_grpc.kernel.page_tokens import PageTokens
from molecule_grpc.kernel.text import clean
from molecule_grpc.quotas import Quotas

_ORGANIZATIONS_LISTED = 1000
_TOKENS_LISTED = 500
_ORGANIZATIONS = "organizations"
_TOKENS = "org-tokens"


class OrganizationPage(NamedTuple):
    """Some organisations, and the token of the next page; empty on the last page."""

    rows: list[Organization]
    next_page_token: str


class OrgTokenPage(NamedTuple):
    """Some tokens of organisations, and the token of the next page; empty on the last page."""

    rows: list[OrgToken]
    next_page_token: str


class Organizations:
    """Serves operators, and organisations within their own rows.

    Args:
        test_tokens: whether this installation mints tokens of workspaces for test scripts.
    """

    def __init__(
        self, pool: Pool, page_tokens: PageTokens, quotas: Quotas, *, test_tokens: bool
    ) -> None:
        self._pool = pool
        self._page_tokens = page_tokens
        self._quotas = quotas
        self._test_tokens = test_tokens

    async def create(self, slug: str, name: str) -> Organization:
        """Add an organisation, named by the slug when `name` is empty.

        Raises:
            AlreadyExists: ORGANIZATION_EXISTS: another one has this slug.
        """
        made = await store.insert_organization(self._pool, slug, clean(name) or slug)
        if made is None:
            raise AlreadyExists(
                "another organization has this slug",
                reason="ORGANIZATION_EXISTS",
                metadata={"slug": slug},
            )
        return made

    async def list_all(self, *, limit: int, page_token: str) -> OrganizationPage:
        """A page of all organisations, oldest first.

        Args:
            limit: most organisations of the page; 0 for 1000.
            page_token: from the page before; empty for the first page.

        Raises:
            Invalid: the page token is not one of ours.
        """
        limit = limit or _ORGANIZATIONS_LISTED
        after = self._place(_ORGANIZATIONS, page_token)
        rows = await store.list_organizations(self._pool, after=after, limit=limit + 1)
        page = page_of(rows, limit=limit)
        return OrganizationPage(page.rows, self._token_after(_ORGANIZATIONS, page.last))

    async def create_token(
        self, name: str, organization_id: UUID | None, principal: Principal, terms: TokenTerms
    ) -> MintedOrgToken:
        """Mint an organisation's token, with administrator's rights unless its terms say less.

        Args:
            organization_id: None for the caller's own, or the default one for the operator.

        Raises:
            NotFound: ORGANIZATION_NOT_FOUND: unknown, or not the caller's.
            Exhausted: TOO_MANY_TOKENS: as many are live as the quota permits.
        """
        own = visible_organization(principal)
        if own is not None and organization_id not in (None, own):
            raise no_organization()
        home = organization_id or own or DEFAULT_ORGANIZATION
        quota = self._quotas.organization_tokens
        async with self._pool.acquire() as conn, conn.transaction():
            if not await store.hold_organization(conn, home):
                raise no_organization()
            if quota.exceeded(await live_org_tokens(conn, home, most=quota.bound)):
                raise quota.refusal(home, metadata={"max": str(quota.limit)})
            return await store.mint_org_token(
                conn, home, name=clean(name), created_by=author_of(principal), terms=terms
            )

    async def list_tokens(
        self, organization_id: UUID | None, *, limit: int, page_token: str
    ) -> OrgTokenPage:
        """A page of live tokens, newest first; of one organisation, or of all.

        Args:
            limit: most tokens of the page; 0 for 500.
            page_token: from the page before; empty for the first page.

        Raises:
            Invalid: the page token is not one of ours.
        """
        limit = limit or _TOKENS_LISTED
        before = self._place(_TOKENS, page_token)
        rows = await store.list_org_tokens(
            self._pool, organization_id, before=before, limit=limit + 1
        )
        page = page_of(rows, limit=limit)
        return OrgTokenPage(page.rows, self._token_after(_TOKENS, page.last))

    async def revoke_token(self, token_id: UUID, organization_id: UUID | None) -> None:
        """End a token at once, on every worker.

        Raises:
            NotFound: TOKEN_NOT_FOUND: the token is not live, or another organisation's.
        """
        async with self._pool.acquire() as conn, conn.transaction():
            if not await store.revoke_org_token(conn, token_id, organization_id):
                raise NotFound("token not found", reason="TOKEN_NOT_FOUND")

    async def issue_test_token(self, workspace_id: UUID) -> Secret:
        """Mint a token of a workspace for test scripts.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND, or this installation mints none.
            Exhausted: TOO_MANY_TOKENS: as many are live as the quota permits.
        """
        if not self._test_tokens:
            raise NotFound("not found")
        async with self._pool.acquire() as conn, conn.transaction():
            if not await store.hold_workspace(conn, workspace_id):
                raise NotFound("workspace not found", reason="WORKSPACE_NOT_FOUND")
            await require_token_room(conn, workspace_id, self._quotas.workspace_tokens)
            _, secret = await mint_workspace_token(conn, workspace_id)
        return secret

    def _place(self, listing: str, page_token: str) -> store.Place | None:
        parts = self._page_tokens.read(listing, page_token, datetime, UUID)
        return None if parts is None else cast("store.Place", tuple(parts))

    def _token_after(self, listing: str, last: Organization | OrgToken | None) -> str:
        """The token of the page behind a row; empty when there is none."""
        return "" if last is None else self._page_tokens.make(listing, last.created_at, last.id)


def visible_organization(principal: Principal) -> UUID | None:
    """The only organisation whose rows an administrator may see; None for the operator: all."""
    return None if principal.role is Role.OPERATOR else principal.organization_id


def author_of(principal: Principal) -> str:
    """Who administers, as rows name them."""
    return "admin-token" if principal.role is Role.OPERATOR else f"org-token:{principal.prefix}"


def no_organization() -> NotFound:
    """The organisation does not exist, or the caller may not see it."""
    return NotFound("organization not found", reason="ORGANIZATION_NOT_FOUND")
