"""The client of operators and organisations: workspaces, tokens, organisations, the ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Self

from google.protobuf import struct_pb2
from moleculeai.admin.v1 import admin_service_pb2 as admin_pb
from moleculeai.workspace.v1 import egress_pb2, operation_pb2, workspace_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.client.agent import Agent
from molecule_grpc.client.approvals import Approvals
from molecule_grpc.client.bundles import Bundles
from molecule_grpc.client.configuration import Configuration
from molecule_grpc.client.connection import DEFAULT_TIMEOUT, ClientCertificate, Connection
from molecule_grpc.client.errors import CallError
from molecule_grpc.client.external import External
from molecule_grpc.client.images import Images
from molecule_grpc.client.memory_admin import MemoryAdmin
from molecule_grpc.client.memory_files import exported, imported
from molecule_grpc.client.schedules import Schedules
from molecule_grpc.client.secrets import Secrets
from molecule_grpc.client.templates import Templates
from molecule_grpc.client.workloads import Workloads

_PAGE = 500
_LEDGER_PAGE = 1000


class Platform:
    """A connection with an operator's or an organisation's token. An async context manager.

    Every call may raise any kind of `CallError`; each method names the kinds that are its own.
    Reads, changes and removals are tried again until `timeout` seconds have passed. Calls that make
    something are not: a second call would make a second thing, or lose a secret that is shown once.

    Args:
        url: `http://host:port`, `https://host`, `host:port` or `unix:/path`.
        token: the operator's or an organisation's; empty for none.
        timeout: seconds for a call with all its attempts.
        root_certificates: PEM of the authority that signed the platform's certificate; None for the
            system's.
        client_certificate: shown to a platform that asks its clients for one.

    Raises:
        ValueError: the URL is none of these.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        timeout: float = DEFAULT_TIMEOUT,
        root_certificates: bytes | None = None,
        client_certificate: ClientCertificate | None = None,
    ) -> None:
        self.connection = Connection(
            url,
            token,
            timeout=timeout,
            root_certificates=root_certificates,
            client_certificate=client_certificate,
        )
        self.secrets = Secrets(self.connection)
        self.external = External(self.connection)
        self.workloads = Workloads(self.connection)
        self.configuration = Configuration(self.connection)
        self.bundles = Bundles(self.connection)
        self.schedules = Schedules(self.connection)
        self.images = Images(self.connection)
        self.approvals = Approvals(self.connection)
        self.templates = Templates(self.connection)

    async def __aenter__(self) -> Self:
        await self.connection.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.connection.__aexit__()

    def agent(self, workspace_id: str, token: str = "") -> Agent:
        """An agent on this platform.

        Args:
            workspace_id: UUID of the workspace.
            token: the workspace's; empty to act for the workspace with this connection's token.
        """
        return Agent(
            self.connection.url,
            workspace_id,
            token or self.connection.token,
            root_certificates=self.connection.root_certificates,
            client_certificate=self.connection.client_certificate,
        )

    async def is_healthy(self) -> bool:
        """Whether the platform answers within 5 s and reaches its database. Raises nothing."""
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
        """Add an external workspace; its token is in `connection.auth_token` of this answer only.

        Args:
            name: 1 to 255 bytes, unique among its siblings.
            **fields: of CreateWorkspaceRequest, such as `role` (at most 1000 bytes) or `parent_id`.

        Raises:
            InvalidArgument: a field is malformed, or the URL must not be called.
            AlreadyExists: WORKSPACE_NAME_TAKEN.
            NotFound: the parent or the organisation is unknown.
        """
        fields.setdefault("runtime", "external")
        request = pb.CreateWorkspaceRequest(name=name, **fields)
        return await self.connection.call(
            self.connection.workspaces.CreateWorkspace, request, retry=False
        )

    async def workspaces(self) -> AsyncIterator[workspace_pb2.Workspace]:
        """Every live workspace, oldest first, read in pages of 500."""
        request = pb.ListWorkspacesRequest(limit=_PAGE)
        async for page in self.connection.pages(self.connection.workspaces.ListWorkspaces, request):
            for workspace in page.workspaces:
                yield workspace

    async def workspace(
        self, workspace_id: str, *, include_removed: bool = False
    ) -> workspace_pb2.Workspace:
        """One workspace.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND: unknown, or removed and not asked for.
        """
        request = pb.GetWorkspaceRequest(workspace_id=workspace_id, include_removed=include_removed)
        return await self.connection.call(
            self.connection.workspaces.GetWorkspace, request, retry=True
        )

    async def update_workspace(
        self, workspace_id: str, *, parent_id: str | None = None, **fields: Any
    ) -> pb.UpdateWorkspaceResponse:
        """Change the given fields and no others.

        Args:
            workspace_id: UUID of the workspace.
            parent_id: UUID of the new parent; empty makes a root, None keeps the parent.
            **fields: of UpdateWorkspaceRequest, such as `name` or `role`.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
            AlreadyExists: WORKSPACE_NAME_TAKEN.
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
        """Remove a workspace. Open streams of the workspace end, and its tokens are revoked.

        With live children and without `confirm` nothing changes, and the answer's status is
        `confirmation_required`.

        Args:
            confirm: remove all descendants, too.
            purge: also delete the rows, for good; the history of delegations stays.
        """
        request = pb.DeleteWorkspaceRequest(workspace_id=workspace_id, confirm=confirm, purge=purge)
        return await self.connection.call(
            self.connection.workspaces.DeleteWorkspace, request, retry=True
        )

    async def restart_workspace(
        self, workspace_id: str, **options: Any
    ) -> pb.RestartWorkspaceResponse:
        """Stop a workspace's workload and start it again, from any status.

        Returns when the request is stored; the workspace is online when its agent has registered.

        Args:
            workspace_id: UUID of the workspace.
            **options: of RestartWorkspaceRequest, such as `reset` or `template`.

        Raises:
            Aborted: WORKSPACE_PAUSED: an ancestor is paused.
            FailedPrecondition: RUNTIME_EXTERNAL.
            Unavailable: NO_BACKEND.
        """
        request = pb.RestartWorkspaceRequest(workspace_id=workspace_id, **options)
        return await self.connection.call(
            self.connection.workspaces.RestartWorkspace, request, retry=True
        )

    async def pause_workspace(self, workspace_id: str) -> pb.PauseWorkspaceResponse:
        """Suspend a workspace with everything below it.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND: unknown, or paused already.
        """
        return await self.connection.call(
            self.connection.workspaces.PauseWorkspace,
            pb.PauseWorkspaceRequest(workspace_id=workspace_id),
            retry=False,
        )

    async def resume_workspace(self, workspace_id: str) -> pb.ResumeWorkspaceResponse:
        """End the pause of a workspace and of everything paused below it.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND: unknown, or not paused.
            Aborted: WORKSPACE_PAUSED: an ancestor is paused, too.
            Unavailable: NO_BACKEND.
        """
        return await self.connection.call(
            self.connection.workspaces.ResumeWorkspace,
            pb.ResumeWorkspaceRequest(workspace_id=workspace_id),
            retry=False,
        )

    async def hibernate_workspace(
        self, workspace_id: str, *, force: bool = False
    ) -> pb.HibernateWorkspaceResponse:
        """Stop a workspace until there is something for it to do. Waits up to 5 s for the stop.

        Args:
            force: also when the agent has tasks.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND: unknown, or neither online nor degraded.
            Aborted: TASKS_RUNNING.
            FailedPrecondition: RUNTIME_EXTERNAL.
            Unavailable: NO_BACKEND.
        """
        return await self.connection.call(
            self.connection.workspaces.HibernateWorkspace,
            pb.HibernateWorkspaceRequest(workspace_id=workspace_id, force=force),
            retry=False,
        )

    async def wake_workspace(self, workspace_id: str) -> pb.WakeWorkspaceResponse:
        """Start a hibernated workspace, as a message for it would.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND: unknown, or not hibernated.
            Aborted: WORKSPACE_PAUSED: an ancestor is paused.
            FailedPrecondition: RUNTIME_EXTERNAL.
            Unavailable: NO_BACKEND.
        """
        return await self.connection.call(
            self.connection.workspaces.WakeWorkspace,
            pb.WakeWorkspaceRequest(workspace_id=workspace_id),
            retry=False,
        )

    async def collapse_workspace(self, workspace_id: str) -> pb.CollapseWorkspaceResponse:
        """Remove everything below a workspace, which itself stays."""
        return await self.connection.call(
            self.connection.workspaces.CollapseWorkspace,
            pb.CollapseWorkspaceRequest(workspace_id=workspace_id),
            retry=True,
        )

    async def peers(self, workspace_id: str, q: str = "") -> list[workspace_pb2.Peer]:
        """Parent, children and siblings of a workspace whose name or role contains `q`, by name."""
        request = pb.ListPeersRequest(workspace_id=workspace_id, q=q, limit=_PAGE)
        pages = self.connection.pages(self.connection.workspaces.ListPeers, request)
        return [peer async for page in pages for peer in page.peers]

    async def quota(
        self, *, organization_id: str = "", workspace_id: str = ""
    ) -> pb.GetQuotaResponse:
        """How much an organisation, and a workspace of it, uses of what it may use.

        Args:
            organization_id: UUID; empty for the workspace's or the caller's own.
            workspace_id: UUID; empty for the caller's own, or for the organisation alone.

        Raises:
            NotFound: ORGANIZATION_NOT_FOUND or WORKSPACE_NOT_FOUND, also for another's.
        """
        request = pb.GetQuotaRequest(organization_id=organization_id, workspace_id=workspace_id)
        return await self.connection.call(self.connection.workspaces.GetQuota, request, retry=True)

    # Tokens.

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

    async def operations(
        self, workspace_id: str, *, most: int = 200
    ) -> list[operation_pb2.Operation]:
        """The newest starts and stops of a workspace, newest first: at most `most`.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
        """
        request = pb.ListOperationsRequest(workspace_id=workspace_id, limit=min(most, 200))
        found: list[operation_pb2.Operation] = []
        async for page in self.connection.pages(self.connection.workspaces.ListOperations, request):
            found += page.operations
            if len(found) >= most:
                break
        return found[:most]

    async def egress(self, workspace_id: str) -> egress_pb2.Egress:
        """Which hosts a workspace may reach, and which it was refused lately.

        Raises:
            NotFound: WORKSPACE_NOT_FOUND.
        """
        request = pb.GetEgressRequest(workspace_id=workspace_id)
        return await self.connection.call(self.connection.workspaces.GetEgress, request, retry=True)

    async def set_egress(
        self, workspace_id: str, hosts: str | Sequence[str]
    ) -> pb.UpdateWorkspaceResponse:
        """Change which hosts a workspace may reach. `needs_restart` tells whether that is due.

        Args:
            workspace_id: UUID of the workspace.
            hosts: `open`, `none`, or up to 100 of `host`, `host:port` and `*.host`.

        Raises:
            InvalidArgument: a host is malformed.
            PermissionDenied: the token is a workspace's.
            NotFound: WORKSPACE_NOT_FOUND.
        """
        request = pb.UpdateWorkspaceRequest(workspace_id=workspace_id)
        if isinstance(hosts, str):
            request.egress.string_value = hosts
        else:
            request.egress.list_value.values.extend(
                struct_pb2.Value(string_value=each) for each in hosts
            )
        return await self.connection.call(
            self.connection.workspaces.UpdateWorkspace, request, retry=True
        )

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

    # Organisations and the ledger.

    async def create_organization(self, slug: str, name: str = "") -> admin_pb.Organization:
        """Add an organisation. For the operator.

        Args:
            slug: 1 to 63 lower-case letters, digits and dashes, unique.
            name: for people, at most 255 bytes; empty for the slug.

        Raises:
            AlreadyExists: ORGANIZATION_EXISTS.
        """
        request = admin_pb.CreateOrganizationRequest(slug=slug, name=name)
        return await self.connection.call(
            self.connection.admin.CreateOrganization, request, retry=False
        )

    async def organizations(self) -> list[admin_pb.Organization]:
        """Every organisation, oldest first. For the operator."""
        request = admin_pb.ListOrganizationsRequest(limit=_PAGE)
        pages = self.connection.pages(self.connection.admin.ListOrganizations, request)
        return [made async for page in pages for made in page.organizations]

    async def ledger(self, status: str = "", limit: int = 100) -> list[admin_pb.LedgerEntry]:
        """Delegations across workspaces, newest first.

        Args:
            status: in_flight, stuck, failed or completed; empty for in_flight.
            limit: most delegations, however many pages those fill.

        Raises:
            InvalidArgument: no such status, or the limit is below 1.
        """
        request = admin_pb.ListDelegationsRequest(status=status, limit=min(limit, _LEDGER_PAGE))
        found: list[admin_pb.LedgerEntry] = []
        async for page in self.connection.pages(self.connection.admin.ListDelegations, request):
            found += page.delegations
            if len(found) >= limit:
                break
        return found[:limit]

    async def audit_log(
        self, workspace_id: str = "", limit: int = 100
    ) -> list[admin_pb.AuditEntry]:
        """Who did what, newest first. For administrators; an organisation sees its own entries.

        Args:
            workspace_id: only what concerns this workspace; empty for all.
            limit: most entries.
        """
        request = admin_pb.ListAuditLogRequest(workspace_id=workspace_id, limit=min(limit, _PAGE))
        found: list[admin_pb.AuditEntry] = []
        async for page in self.connection.pages(self.connection.admin.ListAuditLog, request):
            found += page.entries
            if len(found) >= limit:
                break
        return found[:limit]

    # Memories.

    @property
    def memories(self) -> MemoryAdmin:
        """Rights to memories, quarantine of authors, and namespaces as a whole."""
        return MemoryAdmin(self.connection)

    def export_memories(self, organization_id: str = "") -> AsyncIterator[bytes]:
        """All memories as one JSON array, in pieces that may be cut anywhere.

        Args:
            organization_id: whose; empty for the caller's own, or for all.
        """
        return exported(self.connection, organization_id)

    async def import_memories(
        self, path: Path, organization_id: str = ""
    ) -> admin_pb.ImportMemoriesResponse:
        """Commit the memories of an export's file. A repeat stores nothing twice.

        Args:
            path: a file of JSON as `export_memories` gives it.
            organization_id: whose; empty for the caller's own, or the default one.

        Raises:
            InvalidArgument: the file holds no JSON array of objects.
            OSError: the file cannot be read.
        """
        return await imported(self.connection, path, organization_id)
