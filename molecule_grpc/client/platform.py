"""What operators and organisations do: workspaces, tokens, organisations, the ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Self

from google.protobuf import struct_pb2
from moleculeai.admin.v1 import admin_service_pb2 as admin_pb
from moleculeai.workspace.v1 import workspace_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.client.agent import Agent
from molecule_grpc.client.connection import DEFAULT_TIMEOUT, Connection
from molecule_grpc.client.errors import CallError

_PAGE = 500


class Platform:
    """A connection with an operator's or an organisation's token.

    Every call raises `CallError` or one of its kinds. Reads are tried again until 30 s have
    passed; calls that make something are not, since a second one would make a second thing, or
    lose a secret that is shown once.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        timeout: float = DEFAULT_TIMEOUT,
        root_certificates: bytes | None = None,
    ) -> None:
        self.connection = Connection(
            url, token, timeout=timeout, root_certificates=root_certificates
        )

    async def __aenter__(self) -> Self:
        await self.connection.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.connection.__aexit__()

    def agent(self, workspace_id: str, token: str = "") -> Agent:
        """An agent on this platform, with its own token or, to act for it, with ours."""
        return Agent(self.connection.url, workspace_id, token or self.connection.token)

    async def is_healthy(self) -> bool:
        """Whether the platform can reach its database."""
        try:
            await self.connection.call(
                self.connection.admin.GetHealth,
                admin_pb.GetHealthRequest(),
                retry=False,
                timeout=5.0,
            )
        except CallError:
            return False
        return True

    # Workspaces.

    async def create_workspace(self, name: str, **fields: Any) -> pb.CreateWorkspaceResponse:
        """Add an external workspace; its token is in `connection.auth_token`, once.

        Args:
            name: unique among its siblings.
            **fields: of CreateWorkspaceRequest, such as `role` or `parent_id`.
        """
        fields.setdefault("runtime", "external")
        request = pb.CreateWorkspaceRequest(name=name, **fields)
        return await self.connection.call(
            self.connection.workspaces.CreateWorkspace, request, retry=False
        )

    async def workspaces(self) -> AsyncIterator[workspace_pb2.Workspace]:
        """Live workspaces, oldest first."""
        request = pb.ListWorkspacesRequest(limit=_PAGE)
        while True:
            page = await self.connection.call(
                self.connection.workspaces.ListWorkspaces, request, retry=True
            )
            for workspace in page.workspaces:
                yield workspace
            if len(page.workspaces) < _PAGE:
                return
            request.after = page.workspaces[-1].id

    async def workspace(
        self, workspace_id: str, *, include_removed: bool = False
    ) -> workspace_pb2.Workspace:
        """One workspace."""
        request = pb.GetWorkspaceRequest(workspace_id=workspace_id, include_removed=include_removed)
        return await self.connection.call(
            self.connection.workspaces.GetWorkspace, request, retry=True
        )

    async def update_workspace(
        self, workspace_id: str, *, parent_id: str | None = None, **fields: Any
    ) -> pb.UpdateWorkspaceResponse:
        """Change what is given.

        Args:
            workspace_id: the workspace.
            parent_id: UUID of the new parent, or empty to make it a root.
            **fields: of UpdateWorkspaceRequest, such as `name` or `role`.
        """
        request = pb.UpdateWorkspaceRequest(workspace_id=workspace_id, **fields)
        if parent_id:
            request.parent_id.string_value = parent_id
        elif parent_id is not None:
            request.parent_id.null_value = struct_pb2.NULL_VALUE
        return await self.connection.call(
            self.connection.workspaces.UpdateWorkspace, request, retry=True
        )

    async def remove_workspace(
        self, workspace_id: str, *, confirm: bool = False, purge: bool = False
    ) -> pb.DeleteWorkspaceResponse:
        """Remove a workspace, and with `confirm` everything below it; `purge` deletes the rows."""
        request = pb.DeleteWorkspaceRequest(workspace_id=workspace_id, confirm=confirm, purge=purge)
        return await self.connection.call(
            self.connection.workspaces.DeleteWorkspace, request, retry=True
        )

    async def peers(self, workspace_id: str, q: str = "") -> list[workspace_pb2.Peer]:
        """Workspaces that this one may talk to, whose name or role contains `q`."""
        request = pb.ListPeersRequest(workspace_id=workspace_id, q=q)
        answer = await self.connection.call(
            self.connection.workspaces.ListPeers, request, retry=True
        )
        return list(answer.peers)

    # Tokens.

    async def create_token(self, workspace_id: str) -> pb.CreateTokenResponse:
        """Mint a workspace's token; the secret is in the answer and nowhere else."""
        request = pb.CreateTokenRequest(workspace_id=workspace_id)
        return await self.connection.call(
            self.connection.workspaces.CreateToken, request, retry=False
        )

    async def tokens(self, workspace_id: str) -> list[workspace_pb2.Token]:
        """A workspace's live tokens, newest first, without their secrets."""
        request = pb.ListTokensRequest(workspace_id=workspace_id, limit=200)
        answer = await self.connection.call(
            self.connection.workspaces.ListTokens, request, retry=True
        )
        return list(answer.tokens)

    async def revoke_token(self, workspace_id: str, token_id: str) -> None:
        """End a workspace's token at once."""
        request = pb.RevokeTokenRequest(workspace_id=workspace_id, token_id=token_id)
        await self.connection.call(self.connection.workspaces.RevokeToken, request, retry=False)

    async def create_org_token(
        self, name: str = "", organization_id: str = ""
    ) -> admin_pb.CreateOrgTokenResponse:
        """Mint a token that administers one organisation; the secret is shown once."""
        request = admin_pb.CreateOrgTokenRequest(name=name, organization_id=organization_id)
        return await self.connection.call(
            self.connection.admin.CreateOrgToken, request, retry=False
        )

    async def org_tokens(self) -> list[admin_pb.OrgToken]:
        """Live tokens of organisations, newest first, without their secrets."""
        answer = await self.connection.call(
            self.connection.admin.ListOrgTokens, admin_pb.ListOrgTokensRequest(), retry=True
        )
        return list(answer.tokens)

    async def revoke_org_token(self, token_id: str) -> None:
        """End an organisation's token at once."""
        request = admin_pb.RevokeOrgTokenRequest(token_id=token_id)
        await self.connection.call(self.connection.admin.RevokeOrgToken, request, retry=False)

    # Organisations and the ledger.

    async def create_organization(self, slug: str, name: str = "") -> admin_pb.Organization:
        """Add an organisation."""
        request = admin_pb.CreateOrganizationRequest(slug=slug, name=name)
        return await self.connection.call(
            self.connection.admin.CreateOrganization, request, retry=False
        )

    async def organizations(self) -> list[admin_pb.Organization]:
        """Every organisation, oldest first."""
        answer = await self.connection.call(
            self.connection.admin.ListOrganizations,
            admin_pb.ListOrganizationsRequest(),
            retry=True,
        )
        return list(answer.organizations)

    async def ledger(self, status: str = "", limit: int = 100) -> list[admin_pb.LedgerEntry]:
        """Delegations across workspaces, newest first.

        Args:
            status: in_flight (the default), stuck, failed or completed.
            limit: 1 to 1000.
        """
        request = admin_pb.ListDelegationsRequest(status=status, limit=limit)
        answer = await self.connection.call(
            self.connection.admin.ListDelegations, request, retry=True
        )
        return list(answer.delegations)
