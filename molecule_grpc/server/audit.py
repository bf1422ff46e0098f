"""Notes who did what, or was refused what, without a statement on the way of a call.

Acts of administrators are entries of their own, written within milliseconds after the call. What
may come in floods, refusals and what an administrator does in a workspace's name, is counted: equal
calls of a minute are one entry, and the number of different ones is bounded, so that nobody fills
the disk or hides another organisation's entries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from operator import attrgetter
from typing import NamedTuple
from uuid import UUID

import structlog
from google.protobuf.message import Message
from prometheus_client import Counter as CounterMetric

from molecule_grpc.auth import audit_store
from molecule_grpc.auth.audit_store import AuditEntry
from molecule_grpc.auth.policy import Policy
from molecule_grpc.auth.principal import Role
from molecule_grpc.auth.strangers import client_address
from molecule_grpc.db.pool import Pool
from molecule_grpc.db.sweep import in_batches
from molecule_grpc.kernel.ids import new_id
from molecule_grpc.kernel.text import clean
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

_MAX_ACTS = 10_000  # Entries that wait while the database is away.
_MAX_KEYS = 200  # Different counted calls of one window, of a worker.
_MAX_KEYS_OF_ONE = 50  # Of them, those of one organisation; strangers count as one.
_MAX_SUBJECT = 200
_MAX_ADDRESS = 64
_MAX_REQUEST_ID = 128
_SWEEP_BATCH = 1_000
_ADMINISTRATORS = (Role.ORGANIZATION, Role.OPERATOR)
_REFUSED = (Code.UNAUTHENTICATED, Code.PERMISSION_DENIED)
# Fields by which requests name something beside a workspace, the most telling one first.
_SUBJECTS = (
    "token_id", "delegation_id", "upload_id", "queue_id", "slug", "organization_id", "target_id",
)  # fmt: skip


class _Key(NamedTuple):
    party: str
    token_prefix: str
    organization_id: UUID | None
    workspace_id: UUID | None
    rpc: str
    outcome: str
    reason: str
    address: str


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
        self._keys_of: Counter[UUID | None] = Counter()
        self._window_began = datetime.now(UTC)
        self.tell: Callable[[], None] = lambda: None

    def ended(
        self,
        path: str,
        policy: Policy,
        request: Message | None,
        call: Call,
        code: Code,
        reason: str,
    ) -> None:
        """A call has ended. Most are forgotten here, for the price of two comparisons."""
        refused = code in _REFUSED or (code is Code.NOT_FOUND and not call.admitted)
        acted = policy.audited or (
            call.principal.role in _ADMINISTRATORS and policy.asks and not policy.reads
        )
        if not refused and not (acted and call.admitted):
            return
        entry = _entry(path, policy, request, call, code, reason)
        own = policy.audited or Role.WORKSPACE not in policy.roles
        if refused or not own:
            self._count(entry)
        elif len(self._acts) < _MAX_ACTS:
            self._acts.append(entry)
            _ENTRIES.labels("act").inc()
            self.tell()
        else:
            _UNTOLD.inc()

    def _count(self, entry: AuditEntry) -> None:
        key = _Key(
            entry.party, entry.token_prefix, entry.organization_id, entry.workspace_id, entry.rpc,
            entry.outcome, entry.reason, entry.address,
        )  # fmt: skip
        if key not in self._counted:
            owner = entry.organization_id
            if len(self._counted) >= _MAX_KEYS or self._keys_of[owner] >= _MAX_KEYS_OF_ONE:
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
            self._acts.append(entry._replace(calls=self._counts[key]))
        _ENTRIES.labels("counted").inc(len(self._counted))
        self._counted.clear()
        self._counts.clear()
        self._keys_of.clear()
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


def _entry(
    path: str, policy: Policy, request: Message | None, call: Call, code: Code, reason: str
) -> AuditEntry:
    principal = call.principal
    service, _, name = path.rpartition("/")
    return AuditEntry(
        id=new_id(),
        at=datetime.now(UTC),
        party=principal.role.value,
        token_prefix=principal.prefix,
        organization_id=principal.organization_id,
        workspace_id=_workspace(policy, request),
        rpc=f"{service.rpartition('.')[2]}/{name}",
        subject=_subject(request),
        outcome=code.name,
        reason=reason if code is not Code.OK else "",
        address=client_address(call.metadata)[:_MAX_ADDRESS],
        request_id=clean(call.request_id)[:_MAX_REQUEST_ID],
        calls=1,
    )


def _workspace(policy: Policy, request: Message | None) -> UUID | None:
    """The workspace that a request names, which need not exist or be well-formed."""
    try:
        return UUID(attrgetter(policy.workspace or "workspace_id")(request))
    except (AttributeError, TypeError, ValueError):
        return None


def _subject(request: Message | None) -> str:
    for name in _SUBJECTS:
        text = getattr(request, name, "")
        if text and isinstance(text, str):
            return clean(text)[:_MAX_SUBJECT]
    return ""
