"""Two organisations with a tree, and everybody who may try to act as one of its workspaces."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import asyncpg

from tests.e2e.parties import Agent, Organization, Party, Wire, found

ROLES = (
    "no token",
    "wrong token",
    "revoked token",
    "expired token",
    "expired organization",
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
        expired: who holds a token of `own` that has expired.
        expired_org: who holds a token of the organisation that has expired.
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
    expired: Party
    expired_org: Party
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
            self.expired,
            self.expired_org,
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


async def reborn(family: Family) -> Family:
    """The same with `own` purged, and its id taken by the other organisation.

    `revoked` holds the token that `own` had before, and `other_org` is the former owner, which the
    server has just seen as the owner.
    """
    former, owner, own = family.org, family.other_org, family.own
    path = f"/workspaces/{own.id}"
    known = await former.rest("GET", f"{path}/tokens")
    purged = await former.rest("DELETE", path, confirm="true", purge="true")
    card = {"id": own.id, "delivery_mode": "poll", "agent_card": {}}
    taken = await owner.rest("POST", "/registry/register", card)
    assert [answer.status_code for answer in (known, purged, taken)] == [200] * 3
    token = taken.json()["auth_token"]
    party = own.wire.party(token)
    return replace(
        family,
        org=owner,
        other_org=former,
        own=Agent(party.wire, party.headers, own.id, token),
        related=family.foreign,
        unrelated=await owner.hire(parent_id=family.foreign.id),
        foreign=family.related,
        foreign_friend=await former.hire(),
        revoked=own,
    )


NewFamily = Callable[[], Awaitable["Family"]]

# What decides who may do what; times of calls and beats do not.
_STANDING = """
    SELECT sum(hashtext(r::text)::bigint)::bigint FROM (
        SELECT to_jsonb(w) - ARRAY['updated_at', 'last_heartbeat_at', 'last_outbound_at'] AS r
        FROM workspaces w WHERE id = ANY ($1)
        UNION ALL SELECT to_jsonb(t) - 'last_used_at' FROM workspace_auth_tokens t
        WHERE workspace_id = ANY ($1)
        UNION ALL SELECT to_jsonb(t) - 'last_used_at' FROM org_api_tokens t
        WHERE organization_id = ANY ($2)
        UNION ALL SELECT to_jsonb(o) FROM organizations o WHERE id = ANY ($2)
        UNION ALL SELECT to_jsonb(g) FROM memory_grants g WHERE organization_id = ANY ($2)
        UNION ALL SELECT to_jsonb(q) FROM memory_quarantine q WHERE organization_id = ANY ($2)
    ) AS rows (r)
"""
# Lists and quotas stay short.
_USES = 25


class Families:
    """Lends a family to one test after the other while everybody in it is who they were.

    To found one takes 14 calls: a tenth of a second of CPU for each of a thousand tests.
    """

    def __init__(self, make: NewFamily) -> None:
        self._make = make
        self._family: Family | None = None
        self._standing: int | None = None
        self._left = 0

    async def family(self) -> Family:
        """The same family as before, or a new one after a test has changed somebody."""
        if self._family is None or not self._left or await self._of(self._family) != self._standing:
            self._family, self._left = await self._make(), _USES
            self._standing = await self._of(self._family)
        self._left -= 1
        return self._family

    @staticmethod
    async def _of(family: Family) -> int | None:
        members = (
            family.own, family.related, family.unrelated,
            family.foreign, family.foreign_friend, family.ghost,
        )  # fmt: skip
        standing: int | None = await family.database.fetchval(
            _STANDING, [each.id for each in members], [family.org.id, family.other_org.id]
        )
        return standing


async def found_family(
    wire: Wire, operator: Party, database: asyncpg.Connection[asyncpg.Record]
) -> Family:
    """A family in two new organisations."""
    org, other_org = await asyncio.gather(found(wire, operator), found(wire, operator))
    own, related, ghost, foreign, foreign_friend = await asyncio.gather(
        org.hire(), org.hire(), org.hire(), other_org.hire(), other_org.hire()
    )
    minted, ending, org_ending = [
        answer.json()
        for answer in await asyncio.gather(
            own.rest("POST", f"/workspaces/{own.id}/tokens"),
            own.rest("POST", f"/workspaces/{own.id}/tokens", {"ttl_seconds": 600}),
            org.rest("POST", "/org/tokens", {"ttl_seconds": 600}),
        )
    ]
    unrelated, *_ = await asyncio.gather(
        org.hire(parent_id=related.id),
        own.rest("DELETE", f"/workspaces/{own.id}/tokens/{minted['id']}"),
        org.rest("DELETE", f"/workspaces/{ghost.id}"),
    )
    # Nobody has used these tokens, so no worker knows them: they expire without a wait.
    for table, token in (("workspace_auth_tokens", ending), ("org_api_tokens", org_ending)):
        await database.execute(
            f"UPDATE {table} SET expires_at = now() - interval '1 second' WHERE id = $1",
            token["id"],
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
        expired=wire.party(ending["auth_token"]),
        expired_org=wire.party(org_ending["auth_token"]),
        ghost=ghost,
        database=database,
    )
