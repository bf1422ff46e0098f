"""Two organisations with a tree, and everybody who may try to act as one of its workspaces."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import asyncpg

from tests.e2e.parties import Agent, Organization, Party, Wire, found

ROLES = (
    "no token",
    "wrong token",
    "revoked token",
    "removed workspace",
    "related workspace",
    "unrelated workspace",
    "foreign workspace",
    "foreign organization",
    "own token",
    "own organization",
    "operator",
)


@dataclass(frozen=True, slots=True)
class Family:
    """The workspace that calls are about, and those around it.

    Args:
        own: whom requests name as the caller.
        related: its sibling; it may be talked to.
        unrelated: the sibling's child; it may not.
        foreign: a workspace of another organisation, with a sibling `foreign_friend`.
        revoked: who holds a revoked token of `own`.
        ghost: a workspace that was removed, with the token it had.
        database: for what no call can bring about.
    """

    operator: Party
    org: Organization
    other_org: Organization
    own: Agent
    related: Agent
    unrelated: Agent
    foreign: Agent
    foreign_friend: Agent
    revoked: Party
    ghost: Agent
    database: asyncpg.Connection[asyncpg.Record]

    @property
    def parties(self) -> dict[str, Party]:
        """Who calls, by role."""
        wire = self.operator.wire
        parties = (
            wire.party(),
            wire.party("x" * 43),
            self.revoked,
            self.ghost,
            self.related,
            self.unrelated,
            self.foreign,
            self.other_org,
            self.own,
            self.org,
            self.operator,
        )
        return dict(zip(ROLES, parties, strict=True))


async def found_family(
    wire: Wire, operator: Party, database: asyncpg.Connection[asyncpg.Record]
) -> Family:
    """A family in two new organisations."""
    org, other_org = await asyncio.gather(found(wire, operator), found(wire, operator))
    own, related, ghost, foreign, foreign_friend = await asyncio.gather(
        org.hire(), org.hire(), org.hire(), other_org.hire(), other_org.hire()
    )
    minted = (await own.rest("POST", f"/workspaces/{own.id}/tokens")).json()
    unrelated, *_ = await asyncio.gather(
        org.hire(parent_id=related.id),
        own.rest("DELETE", f"/workspaces/{own.id}/tokens/{minted['id']}"),
        org.rest("DELETE", f"/workspaces/{ghost.id}"),
    )
    return Family(
        operator=operator,
        org=org,
        other_org=other_org,
        own=own,
        related=related,
        unrelated=unrelated,
        foreign=foreign,
        foreign_friend=foreign_friend,
        revoked=wire.party(minted["auth_token"]),
        ghost=ghost,
        database=database,
    )
