"""Organisations, and the tokens that administer them."""

from __future__ import annotations

from uuid import UUID

from molecule_grpc.admin import store
from molecule_grpc.admin.values import MintedOrgToken, Organization, OrgToken
from molecule_grpc.auth.principal import Principal, Role
from molecule_grpc.auth.store import mint_workspace_token, require_token_room
from molecule_grpc.auth.tokens import Secret, TokenTerms
from molecule_grpc.db.pool import Pool
from molecule_grpc.kernel.errors import AlreadyExists, NotFound
from molecule_grpc.kernel.text import clean
from molecule_grpc.quotas import Quotas


class Organizations:
    """Serves operators, and organisations within their own rows.

    Args:
        test_tokens: whether this installation mints tokens of workspaces for test scripts.
    """

    def __init__(self, pool: Pool, quotas: Quotas, *, test_tokens: bool) -> None:
        self._pool = pool
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

    async def list_all(self) -> list[Organization]:
        """Every organisation, oldest first."""
        return await store.list_organizations(self._pool)

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
            raise _no_organization()
        home = organization_id or own or store.DEFAULT_ORGANIZATION
        quota = self._quotas.organization_tokens
        async with self._pool.acquire() as conn, conn.transaction():
            if not await store.hold_organization(conn, home):
                raise _no_organization()
            if quota.exceeded(await store.count_org_tokens(conn, home, most=quota.bound)):
                raise quota.refusal(home, metadata={"max": str(quota.limit)})
            return await store.mint_org_token(
                conn, home, name=clean(name), created_by=_author(principal), terms=terms
            )

    async def list_tokens(self, organization_id: UUID | None) -> list[OrgToken]:
        """Live tokens, newest first, at most 500; of one organisation, or of all."""
        return await store.list_org_tokens(self._pool, organization_id)

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


def visible_organization(principal: Principal) -> UUID | None:
    """The only organisation whose rows an administrator may see; None for the operator: all."""
    return None if principal.role is Role.OPERATOR else principal.organization_id


def _author(principal: Principal) -> str:
    return "admin-token" if principal.role is Role.OPERATOR else f"org-token:{principal.prefix}"


def _no_organization() -> NotFound:
    return NotFound("organization not found", reason="ORGANIZATION_NOT_FOUND")
