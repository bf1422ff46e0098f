"""Notes who did what, or was refused what, without a statement on the way of a call.

Acts of administrators are entries of their own, written within milliseconds after the call, 500 of
one party in a window. What may come in floods is counted: further acts, refusals, acts that fail,
and what an administrator does in a workspace's name. Equal calls of a minute are one entry, and the
number of different ones is bounded for each party, so that nobody fills the disk or hides what
another one does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

import structlog
from google.protobuf.message import Message
from prometheus_client import Counter as CounterMetric

from molecule_grpc.auth import audit_store
from molecule_grpc.auth.audit_store import AuditEntry
from molecule_grpc.auth.policy import Policy
from molecule_grpc.auth.principal import Role
from molecule_grpc.db.pool import Pool
from molecule_grpc.db.sweep import in_batches
from molecule_grpc.server.audit_entry import entry_of, minted
from molecule_grpc.server.call import Call
from molecule_grpc.server.status import Code
from molecule_grpc.settings.audit import AuditSettings

log = structlog.get_logger(__name__)

_ENTRIES = CounterMetric(
    "molecule_audit_entries_total", "Entries of the audit log, by kind.", ["kind"]
)
_UNTOLD = CounterMetric(
    "molecule_audit_untold_total", "Calls that the audit log's bounds left without an entry."
)
for _kind in ("act", "counted"):
    _ENTRIES.labels(_kind)

_MAX_WAITING = 10_000  # Entries that wait while the database is away.
_MAX_KEYS = 2_000  # Different counted calls of one window, of a worker.
# Those of one organisation; strangers count as one, and so does the operator.
_MAX_REFUSALS_OF_ONE = 50
_MAX_ACTS_OF_ONE = 500
_SWEEP_BATCH = 1_000
_ADMINISTRATORS = (Role.ORGANIZATION, Role.OPERATOR)
_REFUSED = (Code.UNAUTHENTICATED, Code.PERMISSION_DENIED)
# Nothing was done; after other failures, such as a cancel, something may have been.
_FAILED = (
    Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.ALREADY_EXISTS, Code.FAILED_PRECONDITION,
    Code.ABORTED, Code.OUT_OF_RANGE, Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE,
)  # fmt: skip
_MISSING_WORKSPACE = "WORKSPACE_NOT_FOUND"


class _Key(NamedTuple):
    party: str
    token_prefix: str
    organization_id: UUID | None
    workspace_id: UUID | None
    rpc: str
    subject: str
    outcome: str
    reason: str
    address: str


class _Owner(NamedTuple):
    """Whose share of the bounds a call uses."""

    party: str
    organization_id: UUID | None
    refusal: bool


class AuditLog:
    """Takes notes of calls, and writes them when `write` is called.

    `tell` is called when there is an entry that should be written at once.
    """

    def __init__(self, pool: Pool, settings: AuditSettings) -> None:
        self._pool = pool
        self._settings = settings
        self._acts: list[AuditEntry] = []
        self._counted: dict[_Key, AuditEntry] = {}
        self._counts: Counter[_Key] = Counter()
        self._keys_of: Counter[_Owner] = Counter()
        self._acts_of: Counter[_Owner] = Counter()
        self._window_began = datetime.now(UTC)
        self.tell: Callable[[], None] = lambda: None

    def began(self, path: str, policy: Policy, request: Message | None, call: Call) -> None:
        """A streaming call sends its first answer, possibly hours before the call ends.

        Where every call is audited, this one is noted now: no end of a worker hides it.
        """
        if policy.audited:
            self.ended(path, policy, request, call, Code.OK, "")

    def ended(
        self,
        path: str,
        policy: Policy,
        request: Message | None,
        call: Call,
        code: Code,
        reason: str,
        response: Message | None = None,
        *,
        begun: bool = False,
    ) -> None:
        """A call has ended. Most are forgotten here, for the price of a few comparisons.

        Args:
            begun: whether its beginning was told of.
        """
        if begun and policy.audited:
            return
        noted = policy.audited or policy.mints
        if code is Code.OK and not noted and call.principal.role is Role.WORKSPACE:
            return
        refused = _is_refusal(call, code, reason)
        mints = policy.mints and bool(minted(response))
        acted = (
            policy.audited
            or mints
            or (call.principal.role in _ADMINISTRATORS and policy.asks and not policy.reads)
        )
        if not refused and not (acted and call.admitted):
            return
        entry = entry_of(path, policy, request, call, code, reason, response)
        own = policy.audited or mints or Role.WORKSPACE not in policy.roles
        if refused or code in _FAILED or not own:
            self._count(entry, refusal=refused)
        elif self._exceeds(entry):
            self._count(entry._replace(subject=""), refusal=False)
        elif self._wait(entry):
            _ENTRIES.labels("act").inc()
            self.tell()

    def _exceeds(self, entry: AuditEntry) -> bool:
        """Whether the party of an act has had its entries of this window."""
        owner = _owner(entry, refusal=False)
        self._acts_of[owner] += 1
        return owner.party != Role.OPERATOR.value and self._acts_of[owner] > _MAX_ACTS_OF_ONE

    def _wait(self, entry: AuditEntry) -> bool:
        """Keep an entry until it is written; False when too many wait."""
        if len(self._acts) >= _MAX_WAITING:
            _UNTOLD.inc(entry.calls)
            return False
        self._acts.append(entry)
        return True

    def _count(self, entry: AuditEntry, *, refusal: bool) -> None:
        # A stranger chooses what a refused request names, and could make every one different.
        subject = "" if refusal else entry.subject
        key = _Key(
            entry.party, entry.token_prefix, entry.organization_id, entry.workspace_id, entry.rpc,
            subject, entry.outcome, entry.reason, entry.address,
        )  # fmt: skip
        if key not in self._counted:
            owner = _owner(entry, refusal=refusal)
            most = _MAX_REFUSALS_OF_ONE if refusal else _MAX_ACTS_OF_ONE
            if len(self._counted) >= _MAX_KEYS or self._keys_of[owner] >= most:
                _UNTOLD.inc()
                return
            self._keys_of[owner] += 1
            self._counted[key] = entry
        self._counts[key] += 1

    async def write(self) -> None:
        """Write what waits: acts, and counted calls when their window is over."""
        if (datetime.now(UTC) - self._window_began).total_seconds() >= self._window:
            self._close_window()
        await self._flush()

    async def close(self) -> None:
        """Write everything: the server stops."""
        self._close_window()
        try:
            await self._flush()
        except Exception:
            log.exception("entries of the audit log are lost", entries=len(self._acts))

    @property
    def _window(self) -> float:
        return self._settings.window_seconds

    def _close_window(self) -> None:
        for key, entry in self._counted.items():
            if self._wait(entry._replace(calls=self._counts[key])):
                _ENTRIES.labels("counted").inc()
        self._counted.clear()
        self._counts.clear()
        self._keys_of.clear()
        self._acts_of.clear()
        self._window_began = datetime.now(UTC)

    async def _flush(self) -> None:
        # Taken off the list only when stored: a failed or cancelled write is repeated.
        while entries := self._acts[:_SWEEP_BATCH]:
            await audit_store.append(self._pool, entries)
            del self._acts[: len(entries)]

    async def sweep(self) -> None:
        """Delete entries that are older than the retention."""
        days = self._settings.retention_days
        await in_batches(
            "audit log",
            lambda limit: audit_store.drop_old(self._pool, days=days, limit=limit),
            batch=_SWEEP_BATCH,
        )


def _owner(entry: AuditEntry, *, refusal: bool) -> _Owner:
    # The operator and strangers name any organisation in their requests.
    any_organization = entry.party in (Role.OPERATOR.value, Role.ANONYMOUS.value)
    return _Owner(entry.party, None if any_organization else entry.organization_id, refusal)


def _is_refusal(call: Call, code: Code, reason: str) -> bool:
    """Whether a call was refused, or looked for a workspace that its caller may not see.

    What another organisation has reads like what does not exist, so both are told.
    """
    if code is Code.NOT_FOUND:
        return not call.admitted or (
            reason == _MISSING_WORKSPACE and call.principal.role is not Role.OPERATOR
        )
    return code in _REFUSED
