"""What the use cases of this slice return."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.auth.tokens import Secret


class Organization(NamedTuple):
    """A tenant. The order of the fields is that of the columns that the store selects."""

    id: UUID
    slug: str
    name: str
    created_at: datetime


class OrgToken(NamedTuple):
    """The visible part of an organisation's token, in the order of the selected columns.

    Args:
        prefix: first 8 characters of the secret.
        created_by: `admin-token`, or `org-token:` and the prefix of the token that made this one.
        last_used_at: at a resolution of a minute; None when never used.
    """

    id: UUID
    prefix: str
    name: str
    organization_id: UUID
    created_by: str
    created_at: datetime
    last_used_at: datetime | None
    read_only: bool
    expires_at: datetime | None


class MintedOrgToken(NamedTuple):
    """A new token of an organisation, with its secret, which is shown once."""

    token: OrgToken
    secret: Secret


@dataclass(frozen=True, slots=True)
class SubsystemState:
    """When a background task of this worker last succeeded. Durations are in seconds.

    Args:
        last_success: None before the first success.
        seconds_ago: since the last success; 0 before the first one.
        stale: whether that is more than twice the period ago, or never was.
        failures: since the last success.
    """

    last_success: datetime | None
    seconds_ago: float
    period: float
    stale: bool
    failures: int
