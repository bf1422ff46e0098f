"""Generated from moleculeai/admin/v1/admin_service.proto by tools/protoc_gen_handlers.py: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from google.api import httpbody_pb2
    from moleculeai.admin.v1 import admin_service_pb2
    from moleculeai.admin.v1 import image_pb2
    from moleculeai.admin.v1 import template_pb2

    from molecule_grpc.server.call import Call


class AdminServiceHandlers(Protocol):
    """AdminService is for operators: organisations, their tokens, the ledger across workspaces, and
    the state of the server itself.
    """

    async def GetHealth(
        self,
        request: admin_service_pb2.GetHealthRequest,
        call: Call,
    ) -> admin_service_pb2.GetHealthResponse:
        """GetHealth answers `ok` while the server can reach its database, and UNAVAILABLE otherwise."""
        ...

    async def GetLiveness(
        self,
        request: admin_service_pb2.GetLivenessRequest,
        call: Call,
    ) -> admin_service_pb2.GetLivenessResponse:
        """GetLiveness lists this worker's background tasks with the time of their last finished pass."""
        ...

    async def CreateOrganization(
        self,
        request: admin_service_pb2.CreateOrganizationRequest,
        call: Call,
    ) -> admin_service_pb2.Organization:
        """CreateOrganization adds an organisation. Fails with ORGANIZATION_EXISTS if the slug is taken."""
        ...

    async def ListOrganizations(
        self,
        request: admin_service_pb2.ListOrganizationsRequest,
        call: Call,
    ) -> admin_service_pb2.ListOrganizationsResponse:
        """ListOrganizations lists every organisation, oldest first. If there are more, the response header
        `x-next-page-token` carries the token of the next page.
        """
        ...

    async def CreateOrgToken(
        self,
        request: admin_service_pb2.CreateOrgTokenRequest,
        call: Call,
    ) -> admin_service_pb2.CreateOrgTokenResponse:
        """CreateOrgToken mints a token for administering one organisation, or for reading alone. Only this
        response carries the secret. A token minted with a token that expires expires no later. Fails with
        TOO_MANY_TOKENS if the organisation has as many live tokens as it may.
        """
        ...

    async def ListOrgTokens(
        self,
        request: admin_service_pb2.ListOrgTokensRequest,
        call: Call,
    ) -> admin_service_pb2.ListOrgTokensResponse:
        """ListOrgTokens lists live tokens, newest first. If there are more, the response header
        `x-next-page-token` carries the token of the next page.
        """
        ...

    async def RevokeOrgToken(
        self,
        request: admin_service_pb2.RevokeOrgTokenRequest,
        call: Call,
    ) -> admin_service_pb2.RevokeOrgTokenResponse:
        """RevokeOrgToken revokes a token at once, on every worker."""
        ...

    async def IssueTestToken(
        self,
        request: admin_service_pb2.IssueTestTokenRequest,
        call: Call,
    ) -> admin_service_pb2.IssueTestTokenResponse:
        """IssueTestToken mints a workspace token for test scripts. Fails with NOT_FOUND unless the
        installation sets MOLECULE_ENABLE_TEST_TOKENS=1.
        """
        ...

    async def ListDelegations(
        self,
        request: admin_service_pb2.ListDelegationsRequest,
        call: Call,
    ) -> admin_service_pb2.ListDelegationsResponse:
        """ListDelegations shows the ledger, newest first. If there are more, the response header
        `x-next-page-token` carries the token of the next page.
        """
        ...

    async def RetryDelegation(
        self,
        request: admin_service_pb2.RetryDelegationRequest,
        call: Call,
    ) -> admin_service_pb2.RetryDelegationResponse:
        """RetryDelegation repeats a failed or stuck delegation as a new delegation. A second call returns
        the same new delegation until that one has ended.
        """
        ...

    async def ListDeadLetters(
        self,
        request: admin_service_pb2.ListDeadLettersRequest,
        call: Call,
    ) -> admin_service_pb2.ListDeadLettersResponse:
        """ListDeadLetters lists inbox items set aside after five failed deliveries, newest first. If there
        are more, the response header `x-next-page-token` carries the token of the next page.
        """
        ...

    async def ReplayDeadLetter(
        self,
        request: admin_service_pb2.ReplayDeadLetterRequest,
        call: Call,
    ) -> admin_service_pb2.ReplayDeadLetterResponse:
        """ReplayDeadLetter sends a dead letter again, as a new inbox item. Fails with ITEM_NOT_FOUND once
        the item has left the list, so a repeat never sends twice.
        """
        ...

    async def DropDeadLetter(
        self,
        request: admin_service_pb2.DropDeadLetterRequest,
        call: Call,
    ) -> admin_service_pb2.DropDeadLetterResponse:
        """DropDeadLetter removes an item from the list for good. Fails with ITEM_NOT_FOUND if the item is
        not on the list.
        """
        ...

    async def DropStaleQueue(
        self,
        request: admin_service_pb2.DropStaleQueueRequest,
        call: Call,
    ) -> admin_service_pb2.DropStaleQueueResponse:
        """DropStaleQueue drops queued messages older than `max_age_minutes`. Delegations among them fail
        with reason `exhausted`, and each source gets a result item.
        """
        ...

    async def ListAuditLog(
        self,
        request: admin_service_pb2.ListAuditLogRequest,
        call: Call,
    ) -> admin_service_pb2.ListAuditLogResponse:
        """ListAuditLog lists who did what, newest first: what the operator and administrators of
        organisations change, every token that is minted or revoked, and every refusal of a caller. An
        organisation sees what concerns itself. Equal refusals of one minute are one entry with a count,
        and so are equal acts that failed or were done in a workspace's name. If there are more entries,
        the response header `x-next-page-token` carries the token of the next page.
        """
        ...

    async def ListEvents(
        self,
        request: admin_service_pb2.ListEventsRequest,
        call: Call,
    ) -> admin_service_pb2.ListEventsResponse:
        """ListEvents lists kept events, newest first. If there are more, the response header
        `x-next-page-token` carries the token of the next page.
        """
        ...

    async def GetDelegationStats(
        self,
        request: admin_service_pb2.GetDelegationStatsRequest,
        call: Call,
    ) -> admin_service_pb2.GetDelegationStatsResponse:
        """GetDelegationStats counts the ledger by status."""
        ...

    def ExportMemories(
        self,
        request: admin_service_pb2.ExportMemoriesRequest,
        call: Call,
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """ExportMemories streams the memories of an organisation, or of all, as one JSON array: `id`,
        `content` without secrets and headers, `scope`, `namespace` (the label), `created_at`,
        `workspace_name`, and what an import needs beside. Left out are superseded and expired memories,
        and those of authors in quarantine. Pieces of the answer may be cut anywhere; an
        export that fails ends without the array's `]`.
        """
        ...

    async def ImportMemories(
        self,
        requests: AsyncIterator[admin_service_pb2.ImportMemoriesRequest],
        call: Call,
    ) -> admin_service_pb2.ImportMemoriesResponse:
        """ImportMemories commits the memories of an export, each on its own. Workspaces are found by name,
        and must be unambiguous. A repeat stores nothing twice. Fails with INVALID_ARGUMENT if the body is
        no JSON array; what came before the fault is stored.
        """
        ...

    async def SetMemoryGrant(
        self,
        request: admin_service_pb2.SetMemoryGrantRequest,
        call: Call,
    ) -> admin_service_pb2.MemoryGrant:
        """SetMemoryGrant lets a workspace read a namespace of its organisation, and write it if `can_write`.
        A repeat changes nothing. Fails with WORKSPACE_NOT_FOUND.
        """
        ...

    async def ListMemoryGrants(
        self,
        request: admin_service_pb2.ListMemoryGrantsRequest,
        call: Call,
    ) -> admin_service_pb2.ListMemoryGrantsResponse:
        """ListMemoryGrants lists grants, by namespace and workspace. If there are more, the response header
        `x-next-page-token` carries the token of the next page.
        """
        ...

    async def DeleteMemoryGrant(
        self,
        request: admin_service_pb2.DeleteMemoryGrantRequest,
        call: Call,
    ) -> admin_service_pb2.DeleteMemoryGrantResponse:
        """DeleteMemoryGrant takes a grant back, from the next call on. Repeating a call is harmless."""
        ...

    async def MoveMemoryNamespace(
        self,
        request: admin_service_pb2.MoveMemoryNamespaceRequest,
        call: Call,
    ) -> admin_service_pb2.MoveMemoryNamespaceResponse:
        """MoveMemoryNamespace moves all memories of a namespace into another one of the same organisation.
        Fails with NAMESPACE_NOT_FOUND if the first holds nothing: so does a repeat.
        """
        ...

    async def DeleteMemoryNamespace(
        self,
        request: admin_service_pb2.DeleteMemoryNamespaceRequest,
        call: Call,
    ) -> admin_service_pb2.DeleteMemoryNamespaceResponse:
        """DeleteMemoryNamespace deletes a namespace with all that it holds. Fails with NAMESPACE_NOT_FOUND:
        so does a repeat.
        """
        ...

    async def GetMemoryStats(
        self,
        request: admin_service_pb2.GetMemoryStatsRequest,
        call: Call,
    ) -> admin_service_pb2.GetMemoryStatsResponse:
        """GetMemoryStats counts what is stored, and names the largest namespaces."""
        ...

    async def SetAuthorQuarantine(
        self,
        request: admin_service_pb2.SetAuthorQuarantineRequest,
        call: Call,
    ) -> admin_service_pb2.AuthorQuarantine:
        """SetAuthorQuarantine hides everything that a workspace wrote from every reader, on every path, from
        the next call on. A repeat changes the reason. Fails with WORKSPACE_NOT_FOUND.
        """
        ...

    async def ListAuthorQuarantines(
        self,
        request: admin_service_pb2.ListAuthorQuarantinesRequest,
        call: Call,
    ) -> admin_service_pb2.ListAuthorQuarantinesResponse:
        """ListAuthorQuarantines lists whose texts are hidden, newest first. If there are more, the response
        header `x-next-page-token` carries the token of the next page.
        """
        ...

    async def DeleteAuthorQuarantine(
        self,
        request: admin_service_pb2.DeleteAuthorQuarantineRequest,
        call: Call,
    ) -> admin_service_pb2.DeleteAuthorQuarantineResponse:
        """DeleteAuthorQuarantine shows a workspace's texts again. Repeating a call is harmless."""
        ...

    async def ListImages(
        self,
        request: admin_service_pb2.ListImagesRequest,
        call: Call,
    ) -> admin_service_pb2.ListImagesResponse:
        """ListImages lists the images that workspaces are started from, by runtime, with their pins."""
        ...

    async def PinImage(
        self,
        request: admin_service_pb2.PinImageRequest,
        call: Call,
    ) -> image_pb2.WorkspaceImage:
        """PinImage has every later start of a runtime use one image, whatever its tag means by then. The
        image is not looked for: a start that does not find it fails with `image_missing`. What runs is left
        alone. A repeat changes nothing. Fails with RUNTIME_UNKNOWN.
        """
        ...

    async def UnpinImage(
        self,
        request: admin_service_pb2.UnpinImageRequest,
        call: Call,
    ) -> admin_service_pb2.UnpinImageResponse:
        """UnpinImage has later starts use the image that the runtime's name means, and forgets earlier pins.
        Fails with IMAGE_NOT_PINNED if there is no pin.
        """
        ...

    async def PromoteImage(
        self,
        request: admin_service_pb2.PromoteImageRequest,
        call: Call,
    ) -> image_pb2.WorkspaceImage:
        """PromoteImage pulls the image that the runtime's name means now, and pins the runtime to that. A
        repeat changes nothing while the registry has no newer one. Fails with RUNTIME_UNKNOWN, with
        IMAGE_UNAVAILABLE if the image cannot be pulled within five minutes, with IMAGE_LOCAL if no registry
        knows it, and with NO_BACKEND (503) where no backend has images.
        """
        ...

    async def RollbackImage(
        self,
        request: admin_service_pb2.RollbackImageRequest,
        call: Call,
    ) -> image_pb2.WorkspaceImage:
        """RollbackImage pins a runtime to the image that it was pinned to before. Fails with IMAGE_NOT_PINNED
        if there is no pin, and with NO_EARLIER_IMAGE if it was never another one.
        """
        ...

    async def RefreshImages(
        self,
        request: admin_service_pb2.RefreshImagesRequest,
        call: Call,
    ) -> admin_service_pb2.RefreshImagesResponse:
        """RefreshImages pulls images: of a pinned runtime the pinned one, else what its name means now. With
        `recreate`, workspaces that are online or degraded and run another image are restarted. Takes five
        minutes at most; what is not pulled by then has failed. A repeat pulls and restarts what is still to
        be. Fails with RUNTIME_UNKNOWN, and with NO_BACKEND (503) where no backend has images.
        """
        ...

    async def ListOrgTemplates(
        self,
        request: template_pb2.ListOrgTemplatesRequest,
        call: Call,
    ) -> template_pb2.ListOrgTemplatesResponse:
        """ListOrgTemplates lists the templates of organisations on the server, up to 200. One that cannot be
        read is left out, with a line in the log.
        """
        ...

    async def ListTemplates(
        self,
        request: template_pb2.ListTemplatesRequest,
        call: Call,
    ) -> template_pb2.ListTemplatesResponse:
        """ListTemplates lists the templates of workspaces on the server, up to 200. One that cannot be read
        is left out, with a line in the log.
        """
        ...

    async def ImportOrg(
        self,
        request: template_pb2.ImportOrgRequest,
        call: Call,
    ) -> template_pb2.ImportOrgResponse:
        """ImportOrg creates the workspaces of a template and begins to start them. A workspace that its
        parent has already, by name, is skipped, so that a repeat creates nothing, two imports at once
        create each workspace once, and an import that was interrupted is completed by another. Each
        workspace is created together with its secrets, files and schedules, or not at all. If some cannot be
        created the others are, and the status is 207. Fails with TEMPLATE_INVALID, with
        TEMPLATE_NOT_FOUND, and with ENV_MISSING (412) if a required variable has no value and `force`
        is not set; then nothing is created.
        """
        ...
