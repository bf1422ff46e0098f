"""Questions to the proxy, and decisions."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from molecule_grpc.host_list import HostList


class Outcome(enum.StrEnum):
    """How an attempt to reach a host ends. Stable names: labels of a metric, words of the log."""

    ALLOWED = "allowed"
    NOT_LISTED = "not_listed"
    NOT_PUBLIC = "not_public"  # A private address, or the platform's own.
    UNRESOLVABLE = "unresolvable"
    UNKNOWN_CALLER = "unknown_caller"
    MALFORMED = "malformed"
    BUSY = "busy"  # The organisation has too many lookups under way.


class Attempt(NamedTuple):
    """A request to the proxy.

    Args:
        organization_id: whose network the connection came in on.
        authority: host and port as the client wrote them.
        tunnel: whether CONNECT asks; then the port must be there.
        authorization: the header Proxy-Authorization; empty without one.
    """

    organization_id: UUID
    authority: str
    tunnel: bool
    authorization: str


class Decision(NamedTuple):
    """The answer to an attempt.

    Args:
        address: where to connect, `IP:port`; empty unless allowed.
    """

    outcome: Outcome
    message: str = ""
    address: str = ""


class Caller(NamedTuple):
    """A workspace that was last started behind the proxy.

    Args:
        operation_id: the start whose password is valid.
    """

    organization_id: UUID
    operation_id: UUID
    hosts: HostList


class Refusal(NamedTuple):
    """A host that a workspace was refused."""

    workspace_id: UUID
    host: str
    port: int
    reason: str
    attempts: int
    first_at: datetime
    last_at: datetime


class View(NamedTuple):
    """What people are shown of a workspace.

    Args:
        enforced: whether it was last started behind the proxy.
        refused: newest first.
    """

    hosts: HostList
    enforced: bool
    refused: list[Refusal]
