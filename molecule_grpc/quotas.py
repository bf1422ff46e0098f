"""Quotas: how much each organisation and workspace may keep, and what is read beyond that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from molecule_grpc.budgets import REFUSED
from molecule_grpc.kernel.errors import Exhausted
from molecule_grpc.kernel.payer import ORGANIZATION, WORKSPACE
from molecule_grpc.settings.quotas import QuotaSettings

# What statements compare with where there is no limit: more than anything that can be kept.
UNLIMITED: Final = 2**62


class QuotaExceeded(Exhausted):
    """An organisation or a workspace keeps as much of something as it may."""

    default_reason = "QUOTA_EXCEEDED"


@dataclass(frozen=True, slots=True)
class Quota:
    """A limit on what is kept for one organisation, or for one workspace.

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
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
    ) -> QuotaExceeded:
        """What a caller reads who met the limit. Counts the refusal.

        Args:
            key: whose limit it is: an id.
            metadata: more facts for clients.
            retry_after: wins over the quota's own.
        """
        REFUSED.labels(self.name, self.of).inc()
        facts = {"quota": self.name, "limit": str(self.limit), "of": self.of}
        return QuotaExceeded(
            f"too many {self.name}: the limit of each {self.of} is {self.limit}",
            reason=self.reason,
            metadata=facts | dict(metadata or {}),
            retry_after=self.retry_after if retry_after is None else retry_after,
            quota=(f"{self.of}:{key}", f"{self.name}: {self.limit} for each {self.of}"),
        )


@dataclass(frozen=True, slots=True)
class Quotas:
    """What organisations and workspaces may keep.

    Args:
        workspaces: live workspaces of an organisation.
        organization_tokens: live tokens that administer an organisation.
        workspace_tokens: live tokens of a workspace.
    """

    workspaces: Quota
    organization_tokens: Quota
    workspace_tokens: Quota

    @classmethod
    def of(cls, settings: QuotaSettings) -> Quotas:
        """The quotas that the settings ask for."""
        return cls(
            workspaces=Quota("workspaces", ORGANIZATION, settings.workspaces),
            organization_tokens=Quota(
                "live tokens", ORGANIZATION, settings.organization_tokens, reason="TOO_MANY_TOKENS"
            ),
            workspace_tokens=Quota(
                "live tokens", WORKSPACE, settings.workspace_tokens, reason="TOO_MANY_TOKENS"
            ),
        )
