"""Tokens of workspaces and of organisations."""

from __future__ import annotations

from moleculeai.admin.v1 import admin_service_pb2 as admin_pb
from moleculeai.workspace.v1 import workspace_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.client.connected import Connected

_PAGE = 500


class Tokens(Connected):
    """The part of `Platform` that mints, lists and revokes tokens."""

    async def create_token(
        self, workspace_id: str, *, read_only: bool = False, ttl_seconds: int = 0
    ) -> pb.CreateTokenResponse:
        """Mint a workspace's token; only this answer carries the secret.

        Args:
            read_only: the token may only call RPCs that change nothing.
            ttl_seconds: seconds after which the token is refused, at most ten years; 0 for never.

        Raises:
            ResourceExhausted: TOO_MANY_TOKENS: the workspace has as many live tokens as it may.
            NotFound: WORKSPACE_NOT_FOUND.
        """
        request = pb.CreateTokenRequest(
            workspace_id=workspace_id, read_only=read_only, ttl_seconds=ttl_seconds
        )
        return await self.connection.call(
            self.connection.workspaces.CreateToken, request, retry=False
        )

    async def tokens(self, workspace_id: str) -> list[workspace_pb2.Token]:
        """A workspace's live tokens (at most 50), newest first, without their secrets."""
        request = pb.ListTokensRequest(workspace_id=workspace_id, limit=200)
        pages = self.connection.pages(self.connection.workspaces.ListTokens, request)
        return [token async for page in pages for token in page.tokens]

    async def revoke_token(self, workspace_id: str, token_id: str) -> None:
        """End a workspace's token, and the streams and uploads that it opened, at once.

        Raises:
            NotFound: TOKEN_NOT_FOUND.
        """
        request = pb.RevokeTokenRequest(workspace_id=workspace_id, token_id=token_id)
        await self.connection.call(self.connection.workspaces.RevokeToken, request, retry=False)

    async def create_org_token(
        self,
        name: str = "",
        organization_id: str = "",
        *,
        read_only: bool = False,
        ttl_seconds: int = 0,
    ) -> admin_pb.CreateOrgTokenResponse:
        """Mint a token that administers an organisation; only this answer carries the secret.

        Args:
            name: for people, at most 100 bytes.
            organization_id: UUID; empty for the caller's own, or the default one.
            read_only: the token may only call RPCs that change nothing.
            ttl_seconds: seconds after which the token is refused, at most ten years; 0 for never.

        Raises:
            NotFound: ORGANIZATION_NOT_FOUND.
        """
        request = admin_pb.CreateOrgTokenRequest(
            name=name,
            organization_id=organization_id,
            read_only=read_only,
            ttl_seconds=ttl_seconds,
        )
        return await self.connection.call(
            self.connection.admin.CreateOrgToken, request, retry=False
        )

    async def org_tokens(self) -> list[admin_pb.OrgToken]:
        """Live tokens of organisations, newest first, without their secrets."""
        request = admin_pb.ListOrgTokensRequest(limit=_PAGE)
        pages = self.connection.pages(self.connection.admin.ListOrgTokens, request)
        return [token async for page in pages for token in page.tokens]

    async def revoke_org_token(self, token_id: str) -> None:
        """End an organisation's token, and the streams that it opened, at once.

        Raises:
            NotFound: TOKEN_NOT_FOUND.
        """
        request = admin_pb.RevokeOrgTokenRequest(token_id=token_id)
        await self.connection.call(self.connection.admin.RevokeOrgToken, request, retry=False)
