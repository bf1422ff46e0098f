"""Quotas: how much each organisation and workspace may keep, and what is read beyond that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from molecule_grpc.budgets import REFUSED
from molecule_grpc.kernel.errors import Exhausted
from molecule_grpc.kernel.payer import ORGANIZATION, WORKSPACE
from molecule_grpc.settings.settings import Settings

# The bound of statements without a limit: above any possible count.
UNLIMITED: Final = 2**62
# After so many seconds a caller may find room: delegations end, agents read and fetch.
_DELEGATION_SECONDS: Final = 30.0
_INBOX_SECONDS: Final = 30.0
_UPLOAD_SECONDS: Final = 60.0
_APPROVAL_SECONDS: Final = 60.0


class QuotaExceeded(Exhausted):
    """An organisation or a workspace keeps as much of something as it may."""

    default_reason = "QUOTA_EXCEEDED"


@dataclass(frozen=True, slots=True)
class Quota:
    """A limit on stored things of an organisation or a workspace.

    Args:
        name: what is counted, as the caller shall read it: "live tokens".
        of: `organization` or `workspace`.
        limit: the most that one of them may have; 0 for no limit.
        reason: of the refusal.
        retry_after: seconds after which a retry makes sense; None where waiting does not help.
    """

    name: str
    of: str
    limit: int
    reason: str = QuotaExceeded.default_reason
    retry_after: float | None = None

    @property
    def bound(self) -> int:
        """The limit as statements compare with it."""
        return self.limit or UNLIMITED

    def exceeded(self, used: int, more: int = 1) -> bool:
        """Whether what is kept would exceed the limit with so much more."""
        return used + more > self.bound

    def refusal(
        self,
        key: object,
        *,
        message: str = "",
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> QuotaExceeded:
        """What a caller reads who met the limit. Counts the refusal.

        Args:
            key: whose limit it is: an id.
            message: instead of the usual one.
            metadata: more facts for clients.
            retry_after: wins over the quota's own.
        """
        REFUSED.labels(self.name, self.of).inc()
        facts = {"quota": self.name, "limit": str(self.limit), "of": self.of}
        return QuotaExceeded(
            message or f"too many {self.name}: the limit of each {self.of} is {self.limit}",
            reason=self.reason,
            metadata=facts | dict(metadata or {}),
            retry_after=self.retry_after if retry_after is None else retry_after,
            quota=(f"{self.of}:{key}", f"{self.name}: {self.limit} for each {self.of}"),
        )


class QuotaUse(NamedTuple):
    """How much of a quota one organisation or workspace uses."""

    quota: Quota
    used: int


@dataclass(frozen=True, slots=True)
class Quotas:
    """What organisations and workspaces may keep.

    Args:
        workspaces: live workspaces of an organisation.
        organization_tokens: live tokens that administer an organisation.
        workspace_tokens: live tokens of a workspace.
        open_of_organization: delegations of an organisation that are under way.
        open_of_workspace: delegations that a workspace has handed out and that are under way.
        record_bytes: bytes that enter the records of an organisation in a day.
        inbox_items: undone items of a workspace's inbox, and messages that wait for an agent.
        inbox_bytes: bytes of the undone items of a workspace's inbox.
        start_file_bytes: bytes of the files that workspaces of an organisation are started with.
        upload_files: files that wait for a workspace.
        upload_bytes: bytes of the files that wait for a workspace.
        schedules: schedules of an organisation.
        workspace_schedules: schedules of a workspace.
        pending_approvals: requests of a workspace for approval that nobody has decided.
    """

    workspaces: Quota
    organization_tokens: Quota
    workspace_tokens: Quota
    open_of_organization: Quota
    open_of_workspace: Quota
    record_bytes: Quota
    start_file_bytes: Quota
    inbox_items: Quota
    inbox_bytes: Quota
    upload_files: Quota
    upload_bytes: Quota
    schedules: Quota
    workspace_schedules: Quota
    pending_approvals: Quota

    @classmethod
    def of(cls, settings: Settings) -> Quotas:
        """The quotas that the settings ask for."""
        quotas, inbox, upload = settings.quotas, settings.inbox, settings.upload
        return cls(
            workspaces=Quota("workspaces", ORGANIZATION, quotas.workspaces),
            organization_tokens=Quota(
                "live tokens", ORGANIZATION, quotas.organization_tokens, reason="TOO_MANY_TOKENS"
            ),
            workspace_tokens=Quota(
                "live tokens", WORKSPACE, quotas.workspace_tokens, reason="TOO_MANY_TOKENS"
            ),
            open_of_organization=Quota(
                "open delegations",
                ORGANIZATION,
                quotas.open_delegations_organization,
                retry_after=_DELEGATION_SECONDS,
            ),
            open_of_workspace=Quota(
                "open delegations",
                WORKSPACE,
                quotas.open_delegations_workspace,
                retry_after=_DELEGATION_SECONDS,
            ),
            record_bytes=Quota("bytes of records a day", ORGANIZATION, quotas.record_bytes),
            start_file_bytes=Quota("bytes of start files", ORGANIZATION, quotas.start_file_bytes),
            inbox_items=Quota(
                "undone items of an inbox",
                WORKSPACE,
                inbox.max_items,
                reason="INBOX_FULL",
                retry_after=_INBOX_SECONDS,
            ),
            inbox_bytes=Quota(
                "undone bytes of an inbox",
                WORKSPACE,
                inbox.max_bytes,
                reason="INBOX_FULL",
                retry_after=_INBOX_SECONDS,
            ),
            upload_files=Quota(
                "waiting files",
                WORKSPACE,
                upload.quota_files,
                reason="UPLOAD_QUOTA_EXCEEDED",
                retry_after=_UPLOAD_SECONDS,
            ),
            upload_bytes=Quota(
                "bytes of waiting files",
                WORKSPACE,
                upload.quota_bytes,
                reason="UPLOAD_QUOTA_EXCEEDED",
                retry_after=_UPLOAD_SECONDS,
            ),
            schedules=Quota("schedules", ORGANIZATION, quotas.schedules),
            workspace_schedules=Quota("schedules", WORKSPACE, quotas.workspace_schedules),
            pending_approvals=Quota(
                "pending approvals",
                WORKSPACE,
                quotas.pending_approvals,
                retry_after=_APPROVAL_SECONDS,
            ),
        )

    def too_much_recorded(self, organization_id: UUID) -> QuotaExceeded:
        """The refusal after an organisation has recorded its bytes of the day."""
        now = datetime.now(UTC)
        rest = timedelta(days=1) - timedelta(
            hours=now.hour, minutes=now.minute, seconds=now.second - 1
        )
        return self.record_bytes.refusal(organization_id, retry_after=rest.total_seconds())
