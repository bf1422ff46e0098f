"""AdminService: every RPC, converted to the use case that serves it and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

from google.api import httpbody_pb2
from google.protobuf.descriptor import ServiceDescriptor
from moleculeai.admin.v1 import admin_service_pb2 as pb

from molecule_grpc.admin import convert
from molecule_grpc.admin.memory_service import MemoryAdministration
from molecule_grpc.admin.operations import LEDGER_FILTERS, Operations
from molecule_grpc.admin.organizations import Organizations, visible_organization
from molecule_grpc.admin.ports import DeadLetters, LedgerViews, Retries
from molecule_grpc.admin.server_state import ServerState
from molecule_grpc.auth.tokens import TokenTerms
from molecule_grpc.events.convert import event_messages
from molecule_grpc.kernel.ids import identifier, parse_id
from molecule_grpc.kernel.slices import in_slices
from molecule_grpc.server.call import Call

_DEFAULT_LISTED = 100
_DEFAULT_STALE_MINUTES = 60
_MAX_COUNT = 2**31 - 1


class AdminService:
    """Serves `moleculeai.admin.v1.AdminService`."""

    def __init__(
        self,
        state: ServerState,
        organizations: Organizations,
        operations: Operations,
        ledger: LedgerViews,
        retries: Retries,
        dead_letters: DeadLetters,
        memories: MemoryAdministration,
    ) -> None:
        self._state = state
        self._organizations = organizations
        self._operations = operations
        self._ledger = ledger
        self._retries = retries
        self._dead_letters = dead_letters
        self._memories = memories

    async def GetHealth(self, request: pb.GetHealthRequest, call: Call) -> pb.GetHealthResponse:
        await self._state.require_healthy()
        return pb.GetHealthResponse(status="ok")

    async def GetLiveness(
        self, request: pb.GetLivenessRequest, call: Call
    ) -> pb.GetLivenessResponse:
        states = self._state.subsystems().items()
        return pb.GetLivenessResponse(
            subsystems={name: convert.subsystem(state) for name, state in states}
        )

    async def CreateOrganization(
        self, request: pb.CreateOrganizationRequest, call: Call
    ) -> pb.Organization:
        return convert.organization(await self._organizations.create(request.slug, request.name))

    async def ListOrganizations(
        self, request: pb.ListOrganizationsRequest, call: Call
    ) -> pb.ListOrganizationsResponse:
        page = await self._organizations.list_all(
            limit=request.limit, page_token=request.page_token
        )
        _tell_of_next_page(call, page.next_page_token)
        return pb.ListOrganizationsResponse(
            organizations=[convert.organization(one) for one in page.rows]
        )

    async def CreateOrgToken(
        self, request: pb.CreateOrgTokenRequest, call: Call
    ) -> pb.CreateOrgTokenResponse:
        minted = await self._organizations.create_token(
            request.name,
            _optional_id(request.organization_id, "organization_id"),
            call.principal,
            TokenTerms.of(
                read_only=request.read_only,
                ttl_seconds=request.ttl_seconds,
                minted_by=call.principal.expires_at,
            ),
        )
        return convert.minted_org_token(minted)

    async def ListOrgTokens(
        self, request: pb.ListOrgTokensRequest, call: Call
    ) -> pb.ListOrgTokensResponse:
        page = await self._organizations.list_tokens(
            _visible(call), limit=request.limit, page_token=request.page_token
        )
        _tell_of_next_page(call, page.next_page_token)
        return pb.ListOrgTokensResponse(
            tokens=[convert.org_token(token) for token in page.rows], count=len(page.rows)
        )

    async def RevokeOrgToken(
        self, request: pb.RevokeOrgTokenRequest, call: Call
    ) -> pb.RevokeOrgTokenResponse:
        token_id = parse_id(request.token_id, "token_id")
        await self._organizations.revoke_token(token_id, _visible(call))
        return pb.RevokeOrgTokenResponse(revoked=str(token_id))

    async def IssueTestToken(
        self, request: pb.IssueTestTokenRequest, call: Call
    ) -> pb.IssueTestTokenResponse:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        secret = await self._organizations.issue_test_token(workspace_id)
        return pb.IssueTestTokenResponse(auth_token=secret.text, workspace_id=str(workspace_id))

    async def ListDelegations(
        self, request: pb.ListDelegationsRequest, call: Call
    ) -> pb.ListDelegationsResponse:
        wanted = request.status or LEDGER_FILTERS[0]
        limit = request.limit if request.HasField("limit") else _DEFAULT_LISTED
        page = await self._operations.delegations(
            wanted, limit=limit, page_token=request.page_token, organization_id=_visible(call)
        )
        _tell_of_next_page(call, page.next_page_token)
        return pb.ListDelegationsResponse(
            delegations=await in_slices(convert.ledger_entry, page.entries),
            count=len(page.entries),
            status=wanted,
            limit=limit,
        )

    async def RetryDelegation(
        self, request: pb.RetryDelegationRequest, call: Call
    ) -> pb.RetryDelegationResponse:
        old = identifier(request.delegation_id, "delegation_id")
        new = await self._retries.retry(old, _visible(call))
        return pb.RetryDelegationResponse(delegation_id=new, retry_of=old)

    async def ListDeadLetters(
        self, request: pb.ListDeadLettersRequest, call: Call
    ) -> pb.ListDeadLettersResponse:
        page = await self._operations.dead_letters(
            workspace_id=_optional_id(request.workspace_id, "workspace_id"),
            limit=request.limit or _DEFAULT_LISTED,
            page_token=request.page_token,
            organization_id=_visible(call),
        )
        _tell_of_next_page(call, page.next_page_token)
        return pb.ListDeadLettersResponse(
            dead_letters=[convert.dead_letter(item) for item in page.items]
        )

    async def ReplayDeadLetter(
        self, request: pb.ReplayDeadLetterRequest, call: Call
    ) -> pb.ReplayDeadLetterResponse:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        seq = await self._dead_letters.replay(workspace_id, request.seq, _visible(call))
        return pb.ReplayDeadLetterResponse(seq=seq)

    async def DropDeadLetter(
        self, request: pb.DropDeadLetterRequest, call: Call
    ) -> pb.DropDeadLetterResponse:
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        await self._dead_letters.drop(workspace_id, request.seq, _visible(call))
        return pb.DropDeadLetterResponse(status="dropped")

    async def DropStaleQueue(
        self, request: pb.DropStaleQueueRequest, call: Call
    ) -> pb.DropStaleQueueResponse:
        given = request.HasField("max_age_minutes")
        dropped = await self._operations.drop_stale(
            request.max_age_minutes if given else _DEFAULT_STALE_MINUTES,
            _optional_id(request.workspace_id, "workspace_id"),
            _visible(call),
        )
        return pb.DropStaleQueueResponse(dropped=dropped)

    async def ListAuditLog(
        self, request: pb.ListAuditLogRequest, call: Call
    ) -> pb.ListAuditLogResponse:
        page = await self._operations.audit_entries(
            workspace_id=_optional_id(request.workspace_id, "workspace_id"),
            limit=request.limit or _DEFAULT_LISTED,
            page_token=request.page_token,
            organization_id=_visible(call),
        )
        _tell_of_next_page(call, page.next_page_token)
        return pb.ListAuditLogResponse(entries=await in_slices(convert.audit_entry, page.entries))

    async def ListEvents(self, request: pb.ListEventsRequest, call: Call) -> pb.ListEventsResponse:
        page = await self._operations.newest_events(
            workspace_id=_optional_id(request.workspace_id, "workspace_id"),
            limit=request.limit or _DEFAULT_LISTED,
            page_token=request.page_token,
            organization_id=_visible(call),
        )
        shown = await event_messages(page)
        if shown.last is not None:
            _tell_of_next_page(call, self._operations.token_after(shown.last))
        return pb.ListEventsResponse(events=shown.messages)

    async def GetDelegationStats(
        self, request: pb.GetDelegationStatsRequest, call: Call
    ) -> pb.GetDelegationStatsResponse:
        counts = await self._ledger.count_by_status(_visible(call))
        return pb.GetDelegationStatsResponse(
            **{status: min(number, _MAX_COUNT) for status, number in counts.items()}
        )

    def ExportMemories(
        self, request: pb.ExportMemoriesRequest, call: Call
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        return self._memories.export(request, call)

    async def ImportMemories(
        self, requests: AsyncIterator[pb.ImportMemoriesRequest], call: Call
    ) -> pb.ImportMemoriesResponse:
        return await self._memories.import_(requests, call)

    async def SetMemoryGrant(self, request: pb.SetMemoryGrantRequest, call: Call) -> pb.MemoryGrant:
        return await self._memories.set_grant(request, call)

    async def ListMemoryGrants(
        self, request: pb.ListMemoryGrantsRequest, call: Call
    ) -> pb.ListMemoryGrantsResponse:
        return await self._memories.list_grants(request, call)

    async def DeleteMemoryGrant(
        self, request: pb.DeleteMemoryGrantRequest, call: Call
    ) -> pb.DeleteMemoryGrantResponse:
        return await self._memories.delete_grant(request, call)

    async def MoveMemoryNamespace(
        self, request: pb.MoveMemoryNamespaceRequest, call: Call
    ) -> pb.MoveMemoryNamespaceResponse:
        return await self._memories.move(request, call)

    async def DeleteMemoryNamespace(
        self, request: pb.DeleteMemoryNamespaceRequest, call: Call
    ) -> pb.DeleteMemoryNamespaceResponse:
        return await self._memories.delete_namespace(request, call)

    async def GetMemoryStats(
        self, request: pb.GetMemoryStatsRequest, call: Call
    ) -> pb.GetMemoryStatsResponse:
        return await self._memories.stats(request, call)

    async def SetAuthorQuarantine(
        self, request: pb.SetAuthorQuarantineRequest, call: Call
    ) -> pb.AuthorQuarantine:
        return await self._memories.quarantine(request, call)

    async def ListAuthorQuarantines(
        self, request: pb.ListAuthorQuarantinesRequest, call: Call
    ) -> pb.ListAuthorQuarantinesResponse:
        return await self._memories.quarantines(request, call)

    async def DeleteAuthorQuarantine(
        self, request: pb.DeleteAuthorQuarantineRequest, call: Call
    ) -> pb.DeleteAuthorQuarantineResponse:
        return await self._memories.release(request, call)


def handlers(service: AdminService) -> tuple[ServiceDescriptor, object]:
    """The service's descriptor with the handlers of this slice; others have more of them."""
    return pb.DESCRIPTOR.services_by_name["AdminService"], service


def _visible(call: Call) -> UUID | None:
    return visible_organization(call.principal)


def _tell_of_next_page(call: Call, token: str) -> None:
    """Say where the list goes on, unless this was its last page."""
    if token:
        call.headers["x-next-page-token"] = token


def _optional_id(text: str, field: str) -> UUID | None:
    return parse_id(text, field) if text else None
