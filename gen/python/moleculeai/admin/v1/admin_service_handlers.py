"""Generated from moleculeai/admin/v1/admin_service.proto by tools/protoc_gen_handlers.py: do not edit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from moleculeai.admin.v1 import admin_service_pb2

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
        """GetLiveness tells when each background task of this worker last finished."""
        ...

    async def CreateOrganization(
        self,
        request: admin_service_pb2.CreateOrganizationRequest,
        call: Call,
    ) -> admin_service_pb2.Organization:
        """CreateOrganization adds an organisation. A slug that is taken fails with
        ORGANIZATION_EXISTS.
        """
        ...

    async def ListOrganizations(
        self,
        request: admin_service_pb2.ListOrganizationsRequest,
        call: Call,
    ) -> admin_service_pb2.ListOrganizationsResponse:
        """ListOrganizations lists every organisation, oldest first."""
        ...

    async def CreateOrgToken(
        self,
        request: admin_service_pb2.CreateOrgTokenRequest,
        call: Call,
    ) -> admin_service_pb2.CreateOrgTokenResponse:
        """CreateOrgToken mints a token that administers one organisation. Shown once."""
        ...

    async def ListOrgTokens(
        self,
        request: admin_service_pb2.ListOrgTokensRequest,
        call: Call,
    ) -> admin_service_pb2.ListOrgTokensResponse:
        """ListOrgTokens lists live tokens, newest first, at most 500."""
        ...

    async def RevokeOrgToken(
        self,
        request: admin_service_pb2.RevokeOrgTokenRequest,
        call: Call,
    ) -> admin_service_pb2.RevokeOrgTokenResponse:
        """RevokeOrgToken ends a token at once, on every server."""
        ...

    async def IssueTestToken(
        self,
        request: admin_service_pb2.IssueTestTokenRequest,
        call: Call,
    ) -> admin_service_pb2.IssueTestTokenResponse:
        """IssueTestToken mints a workspace token for test scripts, where the installation allows it
        (MOLECULE_ENABLE_TEST_TOKENS=1); NOT_FOUND elsewhere.
        """
        ...

    async def ListDelegations(
        self,
        request: admin_service_pb2.ListDelegationsRequest,
        call: Call,
    ) -> admin_service_pb2.ListDelegationsResponse:
        """ListDelegations shows the ledger, newest first."""
        ...

    async def RetryDelegation(
        self,
        request: admin_service_pb2.RetryDelegationRequest,
        call: Call,
    ) -> admin_service_pb2.RetryDelegationResponse:
        """RetryDelegation tries a delegation again that failed or is stuck, as a new one. A second call
        returns the same retry while that lives.
        """
        ...

    async def ListDeadLetters(
        self,
        request: admin_service_pb2.ListDeadLettersRequest,
        call: Call,
    ) -> admin_service_pb2.ListDeadLettersResponse:
        """ListDeadLetters lists inbox items that could not be processed five times, newest first. When
        there are more, the response header `x-next-page-token` carries the token of the next page.
        """
        ...

    async def ReplayDeadLetter(
        self,
        request: admin_service_pb2.ReplayDeadLetterRequest,
        call: Call,
    ) -> admin_service_pb2.ReplayDeadLetterResponse:
        """ReplayDeadLetter sends an item again, as a new one. Fails with ITEM_NOT_FOUND when it is not on
        the list any more, so a repeat never sends twice.
        """
        ...

    async def DropDeadLetter(
        self,
        request: admin_service_pb2.DropDeadLetterRequest,
        call: Call,
    ) -> admin_service_pb2.DropDeadLetterResponse:
        """DropDeadLetter takes an item off the list for good. Fails with ITEM_NOT_FOUND when it is not on
        it.
        """
        ...

    async def DropStaleQueue(
        self,
        request: admin_service_pb2.DropStaleQueueRequest,
        call: Call,
    ) -> admin_service_pb2.DropStaleQueueResponse:
        """DropStaleQueue lets go of messages that have waited too long for agents. Delegations among them
        fail with reason `exhausted`, and their sources hear of it.
        """
        ...

    async def ListEvents(
        self,
        request: admin_service_pb2.ListEventsRequest,
        call: Call,
    ) -> admin_service_pb2.ListEventsResponse:
        """ListEvents lists the newest 100 kept events, newest first."""
        ...

    async def GetDelegationStats(
        self,
        request: admin_service_pb2.GetDelegationStatsRequest,
        call: Call,
    ) -> admin_service_pb2.GetDelegationStatsResponse:
        """GetDelegationStats counts the ledger by status."""
        ...
