"""Waiting for news of one delegation: until its end, or as a stream of its states."""

from __future__ import annotations

import enum
import time
from collections.abc import AsyncGenerator
from uuid import UUID

from molecule_grpc.db.wakeups import Wakeups, delegation_key
from molecule_grpc.delegation.ledger.rules import FINAL
from molecule_grpc.delegation.ledger.store.views import DelegationRow
from molecule_grpc.delegation.ledger.views import LedgerViews
from molecule_grpc.kernel.ids import identifier
from molecule_grpc.server.streams import StreamGuards

# A wake-up can be lost: look at the table this often, in seconds, without one.
_LOOK_SECONDS = 5.0


class Signal(enum.Enum):
    """What a stream of states says beside the states."""

    BEAT = "beat"
    """The stream is alive; nothing has changed for a while."""
    DRAIN = "drain"
    """The client must come back elsewhere; the stream ends with DRAINING."""


class Watch:
    """Waits on behalf of callers, under the stream guards."""

    def __init__(self, views: LedgerViews, wakeups: Wakeups, guards: StreamGuards) -> None:
        self._views = views
        self._wakeups = wakeups
        self._guards = guards

    async def wait(
        self, workspace_id: UUID, delegation_id: str, *, until: float, authorization: str | None
    ) -> DelegationRow:
        """The delegation when it ends; as it is when time is up or the server drains.

        Args:
            until: when time is up, by `time.monotonic()`.
            authorization: the header that the caller sent.

        Raises:
            NotFound: DELEGATION_NOT_FOUND: the workspace is no party of such a delegation.
            Unauthenticated: the token was revoked meanwhile.
        """
        with (
            self._wakeups.watch(delegation_key(delegation_id)) as flag,
            self._guards.watch_token(flag, authorization, beats=False) as guard,
        ):
            while True:
                guard.check()
                found = await self._views.get(workspace_id, delegation_id)
                if guard.revoked:  # during the look
                    raise guard.revoked_error()
                left = until - time.monotonic()
                if left <= 0 or found.status in FINAL or guard.draining:
                    return found
                await guard.wait(min(left, _LOOK_SECONDS))

    async def watch(
        self, workspace_id: UUID, delegation_id: str, *, authorization: str | None
    ) -> AsyncGenerator[DelegationRow | Signal, None]:
        """The delegation as it is, and again after every change, until it ends.

        Raises:
            NotFound: DELEGATION_NOT_FOUND: the workspace is no party of such a delegation.
            Unauthenticated: the token was revoked meanwhile.
            Unavailable: DRAINING, after `Signal.DRAIN`.
        """
        shown: DelegationRow | None = None
        with (
            self._wakeups.watch(delegation_key(identifier(delegation_id, "delegation_id"))) as flag,
            self._guards.watch_token(flag, authorization) as guard,
        ):
            while True:
                guard.check()
                found = await self._views.get(workspace_id, delegation_id)
                if guard.revoked:  # during the look
                    raise guard.revoked_error()
                if found != shown:
                    shown = found
                    guard.spoke()
                    yield found
                    if found.status in FINAL:
                        return
                if guard.over:
                    yield Signal.DRAIN
                    raise guard.drained_error()
                if guard.beat_due():
                    yield Signal.BEAT
                await guard.wait(_LOOK_SECONDS)
