"""AdminService: organisations, their tokens, the ledger across workspaces, the server itself."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol
from uuid import UUID

from moleculeai.admin.v1 import admin_service_pb2 as pb

from molecule_grpc.admin import convert, store
from molecule_grpc.admin.operations import Operations
from molecule_grpc.auth.principal import Principal, Role
from molecule_grpc.auth.store import mint_workspace_token
from molecule_grpc.db.pool import Pool
from molecule_grpc.kernel.errors import AlreadyExists, Invalid, NotFound, Unavailable
from molecule_grpc.kernel.ids import parse_id
from molecule_grpc.kernel.text import clean
from molecule_grpc.server.call import Call
from molecule_grpc.settings.auth import AuthSettings

_DEFAULT_LISTED = 100
_MAX_LISTED = 1000
_MAX_COUNT = 2**31 - 1
_ORG_TOKEN_WARNING = (
    "store this token now: it is not shown again, and it administers the whole organization"
)


class TaskState(Protocol):
    """What is known of a background task. Times are in seconds."""

    @property
    def period(self) -> float: ...
    @property
    def last_success(self) -> float | None: ...
    @property
    def failures(self) -> int: ...


class AdminService:
    """Serves `moleculeai.admin.v1.AdminService`.

    Args:
        healthy: whether the database answers.
        liveness: the background tasks of this worker, by name.
    """

    def __init__(
        self,
        pool: Pool,
        settings: AuthSettings,
        *,
        healthy: Callable[[], Awaitable[bool]],
        liveness: Callable[[], Mapping[str, TaskState]],
        operations: Operations,
    ) -> None:
        self._pool = pool
        self._settings = settings
        self._healthy = healthy
        self._liveness = liveness
        self._operations = operations

    async def GetHealth(self, request: pb.GetHealthRequest, call: Call) -> pb.GetHealthResponse:
        if not await self._healthy():
            raise Unavailable(
                "the database is not available, try again", reason="DATABASE_UNAVAILABLE"
            )
        return pb.GetHealthResponse(status="ok")

    async def GetLiveness(
        self, request: pb.GetLivenessRequest, call: Call
    ) -> pb.GetLivenessResponse:
        now = time.time()
        subsystems = {name: _subsystem(task, now) for name, task in self._liveness().items()}
        return pb.GetLivenessResponse(subsystems=subsystems)

    async def CreateOrganization(
        self, request: pb.CreateOrganizationRequest, call: Call
    ) -> pb.Organization:
        name = clean(request.name) or request.slug
        row = await store.insert_organization(self._pool, request.slug, name)
        if row is None:
            raise AlreadyExists(
                "another organization has this slug",
                reason="ORGANIZATION_EXISTS",
                metadata={"slug": request.slug},
            )
        return convert.organization(row)

    async def ListOrganizations(
        self, request: pb.ListOrganizationsRequest, call: Call
    ) -> pb.ListOrganizationsResponse:
        rows = await store.list_organizations(self._pool)
        return pb.ListOrganizationsResponse(
            organizations=[convert.organization(row) for row in rows]
        )

    async def CreateOrgToken(
        self, request: pb.CreateOrgTokenRequest, call: Call
    ) -> pb.CreateOrgTokenResponse:
        minted = await store.mint_org_token(
            self._pool,
            _administered(request.organization_id, call.principal),
            name=clean(request.name),
            created_by=_author(call.principal),
        )
        if minted is None:
            raise _no_organization()
        row, secret = minted
        return pb.CreateOrgTokenResponse(
            id=str(row["id"]),
            prefix=row["prefix"],
            name=row["name"],
            auth_token=secret.text,
            warning=_ORG_TOKEN_WARNING,
            organization_id=str(row["organization_id"]),
        )

    async def ListOrgTokens(
        self, request: pb.ListOrgTokensRequest, call: Call
    ) -> pb.ListOrgTokensResponse:
        rows = await store.list_org_tokens(self._pool, _scope(call.principal))
        return pb.ListOrgTokensResponse(
            tokens=[convert.org_token(row) for row in rows], count=len(rows)
        )

    async def RevokeOrgToken(
        self, request: pb.RevokeOrgTokenRequest, call: Call
    ) -> pb.RevokeOrgTokenResponse:
        token_id = parse_id(request.token_id, "token_id")
        async with self._pool.acquire() as conn, conn.transaction():
            if not await store.revoke_org_token(conn, token_id, _scope(call.principal)):
                raise NotFound("token not found", reason="TOKEN_NOT_FOUND")
        return pb.RevokeOrgTokenResponse(revoked=str(token_id))

    async def IssueTestToken(
        self, request: pb.IssueTestTokenRequest, call: Call
    ) -> pb.IssueTestTokenResponse:
        if not self._settings.test_tokens:
            raise NotFound("not found")
        workspace_id = parse_id(request.workspace_id, "workspace_id")
        async with self._pool.acquire() as conn, conn.transaction():
            if not await store.hold_workspace(conn, workspace_id):
                raise NotFound("workspace not found", reason="WORKSPACE_NOT_FOUND")
            _, secret = await mint_workspace_token(conn, workspace_id)
        return pb.IssueTestTokenResponse(auth_token=secret.text, workspace_id=str(workspace_id))

    async def ListDelegations(
        self, request: pb.ListDelegationsRequest, call: Call
    ) -> pb.ListDelegationsResponse:
        wanted = _filter(request.status)
        limit = request.limit if request.HasField("limit") else _DEFAULT_LISTED
        if not 1 <= limit <= _MAX_LISTED:
            raise Invalid(f"limit must be 1..{_MAX_LISTED}", field="limit")
        rows = await store.list_delegations(self._pool, wanted, _scope(call.principal), limit)
        return pb.ListDelegationsResponse(
            delegations=[convert.entry(row) for row in rows],
            count=len(rows),
            status=wanted,
            limit=limit,
        )

    async def RetryDelegation(
        self, request: pb.RetryDelegationRequest, call: Call
    ) -> pb.RetryDelegationResponse:
        return await self._operations.retry(request, call)

    async def ListDeadLetters(
        self, request: pb.ListDeadLettersRequest, call: Call
    ) -> pb.ListDeadLettersResponse:
        return await self._operations.list_dead_letters(request, call)

    async def ReplayDeadLetter(
        self, request: pb.ReplayDeadLetterRequest, call: Call
    ) -> pb.ReplayDeadLetterResponse:
        return await self._operations.replay(request, call)

    async def DropDeadLetter(
        self, request: pb.DropDeadLetterRequest, call: Call
    ) -> pb.DropDeadLetterResponse:
        return await self._operations.drop(request, call)

    async def DropStaleQueue(
        self, request: pb.DropStaleQueueRequest, call: Call
    ) -> pb.DropStaleQueueResponse:
        return await self._operations.drop_stale(request, call)

    async def ListEvents(self, request: pb.ListEventsRequest, call: Call) -> pb.ListEventsResponse:
        return await self._operations.list_events(request, call)

    async def GetDelegationStats(
        self, request: pb.GetDelegationStatsRequest, call: Call
    ) -> pb.GetDelegationStatsResponse:
        counts = await store.count_delegations(self._pool, _scope(call.principal))
        return pb.GetDelegationStatsResponse(
            **{status: min(number, _MAX_COUNT) for status, number in counts.items()}
        )


def _scope(principal: Principal) -> UUID | None:
    """The only organisation whose rows the principal may see; None means all."""
    return None if principal.role is Role.OPERATOR else principal.organization_id


def _administered(wanted: str, principal: Principal) -> UUID:
    """The organisation that a new token is for."""
    own = _scope(principal)
    organization_id = parse_id(wanted, "organization_id") if wanted else own
    if own is not None and organization_id != own:
        raise _no_organization()
    return organization_id or store.DEFAULT_ORGANIZATION


def _author(principal: Principal) -> str:
    return "admin-token" if principal.role is Role.OPERATOR else f"org-token:{principal.prefix}"


def _filter(wanted: str) -> str:
    """The ledger filter that is asked for; what is in flight when none is."""
    if not wanted:
        return store.FILTERS[0]
    if wanted not in store.FILTERS:
        raise Invalid(
            "unknown status filter",
            field="status",
            metadata={"allowed": ", ".join(store.FILTERS)},
            body={"allowed": list(store.FILTERS), "requested_status": wanted},
        )
    return wanted


def _subsystem(task: TaskState, now: float) -> pb.GetLivenessResponse.Subsystem:
    ago = 0.0 if task.last_success is None else max(0.0, now - task.last_success)
    return pb.GetLivenessResponse.Subsystem(
        last_tick_at=convert.timestamp(task.last_success),
        seconds_ago=round(ago, 3),
        interval_seconds=task.period,
        stale=task.last_success is None or ago > 2 * task.period,
        failures=task.failures,
    )


def _no_organization() -> NotFound:
    return NotFound("organization not found", reason="ORGANIZATION_NOT_FOUND")
