"""The authenticated party of a call."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

from molecule_grpc.kernel.payer import OPERATOR_PAYS, STRANGERS_PAY, Payer


class Role(enum.Enum):
    """What kind of party holds the token."""

    ANONYMOUS = "anonymous"
    WORKSPACE = "workspace"
    ORGANIZATION = "organization"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated party of a call.

    Args:
        organization_id: the only organisation it may see; None for the operator and strangers.
        workspace_id: set for a workspace.
        token_id: the row of its token, so that a revocation can end its streams.
        prefix: first 8 characters of the token, for audit.
        read_only: whether the token may only call RPCs that change nothing.
        expires_at: when the token ends; None for never.
        ended: the token was revoked or has expired: whoever shows it is known, and refused.
        revoked_workspace: the removed workspace whose revoked token was sent: its agent is told so,
            instead of "invalid token".

    Attributes:
        payer: whose budgets the party's calls use.
        workspace_name: the workspace's id as text, as requests name it; empty for other parties.
    """

    role: Role
    organization_id: UUID | None = None
    workspace_id: UUID | None = None
    token_id: UUID | None = None
    prefix: str = ""
    read_only: bool = False
    expires_at: datetime | None = None
    ended: bool = False
    revoked_workspace: UUID | None = None
    payer: Payer = field(init=False, repr=False, compare=False)
    workspace_name: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Made once for a token, and read at each of its calls.
        own = self.role is Role.WORKSPACE and self.workspace_id is not None
        object.__setattr__(self, "payer", self._payer())
        object.__setattr__(self, "workspace_name", str(self.workspace_id) if own else "")

    @property
    def administers(self) -> bool:
        """Whether the party administers its organisation, or all organisations."""
        return self.role in (Role.ORGANIZATION, Role.OPERATOR)

    def _payer(self) -> Payer:
        if self.organization_id is None:
            return OPERATOR_PAYS if self.role is Role.OPERATOR else STRANGERS_PAY
        return Payer(self.organization_id, self.workspace_id, self.token_id)


ANONYMOUS = Principal(Role.ANONYMOUS)
OPERATOR = Principal(Role.OPERATOR)


def seconds_left(principal: Principal | None) -> float:
    """Seconds until the principal's token expires; infinite when it never does."""
    if principal is None or principal.expires_at is None:
        return math.inf
    return max(0.0, (principal.expires_at - datetime.now(UTC)).total_seconds())
