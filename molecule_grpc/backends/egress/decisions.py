"""Whether a workspace may reach a host, and at which address."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from typing import Final, Protocol
from uuid import UUID

import psutil
import structlog
from prometheus_client import Counter

from molecule_grpc.backends.egress import credentials, store
from molecule_grpc.backends.egress.refused import RefusedHosts
from molecule_grpc.backends.egress.values import Attempt, Caller, Decision, Outcome
from molecule_grpc.db.pool import Pool
from molecule_grpc.egress import carried
from molecule_grpc.host_list import Target, read_target
from molecule_grpc.kernel.errors import Exhausted
from molecule_grpc.kernel.payer import Payer, payer
from molecule_grpc.lookups import Address, Lookups

log = structlog.get_logger(__name__)

_HTTP_PORT: Final = 80
_LISTED: Final = frozenset({Outcome.NOT_LISTED, Outcome.NOT_PUBLIC, Outcome.UNRESOLVABLE})
# Of a host that cannot be read, in the log.
_LOGGED_CHARS: Final = 262
_ATTEMPTS = Counter(
    "molecule_egress_attempts_total",
    "Attempts of workspaces to reach a host through the proxy, by how they ended.",
    ["outcome"],
)
ATTEMPTS: Final = {outcome: _ATTEMPTS.labels(outcome) for outcome in Outcome}


class AllowsAddress(Protocol):
    """Whether the proxy may connect to an address at all."""

    def __call__(self, address: Address) -> bool: ...


class Decisions:
    """Decides attempts.

    The addresses of a name are looked up once, here: the proxy connects to one that was checked,
    whatever the name leads to a moment later.

    Args:
        key: of the passwords of starts.
        allows: which addresses are public.
        own_hosts: names of the platform, which no list opens: through the proxy a workspace would
            be taken for this machine.
    """

    def __init__(
        self,
        pool: Pool,
        lookups: Lookups,
        refused: RefusedHosts,
        *,
        key: bytes,
        allows: AllowsAddress,
        own_hosts: Collection[str] = (),
    ) -> None:
        self._pool = pool
        self._lookups = lookups
        self._refused = refused
        self._key = key
        self._allows = allows
        self._own_hosts = frozenset(own_hosts)

    async def decide(self, attempt: Attempt) -> Decision:
        """Whether the attempt may go on. Every one is logged and counted."""
        # Of the connections and lookups that all share, an organisation's attempts get its part.
        token = payer.set(Payer(attempt.organization_id))
        try:
            return await self._decide(attempt)
        finally:
            payer.reset(token)

    async def _decide(self, attempt: Attempt) -> Decision:
        shown = credentials.read_authorization(attempt.authorization)
        caller = None if shown is None else await self._known(attempt, shown)
        if shown is None or caller is None:
            decision = Decision(
                Outcome.UNKNOWN_CALLER, "the proxy takes the name and password of HTTPS_PROXY"
            )
            return _told(decision, attempt, None, None)
        try:
            target = read_target(attempt.authority, None if attempt.tunnel else _HTTP_PORT)
        except ValueError as error:
            decision = Decision(Outcome.MALFORMED, f"the host cannot be read: {error}")
            return _told(decision, attempt, shown.workspace_id, None)
        decision = await self._judge(caller, target)
        if decision.outcome in _LISTED:
            self._refused.note(shown.workspace_id, target, decision.outcome)
        return _told(decision, attempt, shown.workspace_id, target)

    async def _known(self, attempt: Attempt, shown: credentials.Shown) -> Caller | None:
        """The workspace whose password was shown, on a connection from its own network."""
        caller = await store.caller(self._pool, shown.workspace_id)
        if caller is None or caller.organization_id != attempt.organization_id:
            return None
        known = credentials.is_password(self._key, caller.operation_id, shown.password)
        return caller if known else None

    async def _judge(self, caller: Caller, target: Target) -> Decision:
        if not caller.hosts.admits(target):
            # No name server hears of a host that is not listed.
            return Decision(Outcome.NOT_LISTED, f"{_shown(target)} is not on the egress list")
        if target.host in self._own_hosts:
            return _not_public(target)
        try:
            addresses = await self._lookups.addresses(target.host)
        except Exhausted:
            return Decision(Outcome.BUSY, "too many lookups are under way, try again")
        if not addresses:
            return Decision(Outcome.UNRESOLVABLE, f"{target.host} has no address")
        # A private address among public ones refuses the name: DNS rebinding mixes them.
        if not all(self._allows(each) and not is_own(each) for each in addresses):
            return _not_public(target)
        return Decision(Outcome.ALLOWED, address=_endpoint(chosen(addresses), target.port))


def is_own(address: Address) -> bool:
    """Whether an address is one of this machine's now, on whatever interface, or leads to one."""
    found = (each.address for group in psutil.net_if_addrs().values() for each in group)
    own = {text.partition("%")[0] for text in found}
    return str(address) in own or str(carried(address)) in own


def chosen(addresses: Sequence[Address]) -> Address:
    """One of the addresses, IPv4 where there is one: a second attempt may try another."""
    fourth = [each for each in addresses if each.version == 4]
    return secrets.choice(fourth or list(addresses))


def _not_public(target: Target) -> Decision:
    return Decision(
        Outcome.NOT_PUBLIC, f"{_shown(target)} leads to an address that may not be reached"
    )


def _endpoint(address: Address, port: int) -> str:
    return f"[{address}]:{port}" if ":" in str(address) else f"{address}:{port}"


def _shown(target: Target) -> str:
    host = f"[{target.host}]" if ":" in target.host else target.host
    return f"{host}:{target.port}"


def _told(
    decision: Decision, attempt: Attempt, workspace_id: UUID | None, target: Target | None
) -> Decision:
    ATTEMPTS[decision.outcome].inc()
    log.info(
        "egress",
        outcome=str(decision.outcome),
        workspace_id=None if workspace_id is None else str(workspace_id),
        organization_id=str(attempt.organization_id),
        host=_unread(attempt.authority) if target is None else target.host,
        port=None if target is None else target.port,
        address=decision.address or None,
    )
    return decision


def _unread(authority: str) -> str:
    """A host as it was sent, for the log; nothing of a host behind a user and a password."""
    return "" if "@" in authority else authority[:_LOGGED_CHARS]
