"""Watching one delegation until it ends."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator

from moleculeai.delegation.v1 import delegation_pb2, inbox_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from molecule_grpc.auth.authenticator import Authenticator
from molecule_grpc.db.wakeups import Wakeups, delegation_key
from molecule_grpc.delegation import rules
from molecule_grpc.delegation.ledger import Ledger
from molecule_grpc.delegation.sessions import Sessions
from molecule_grpc.errors import MoleculeError, Unauthenticated, Unavailable
from molecule_grpc.server.call import Call
from molecule_grpc.server.status import render
from molecule_grpc.settings import Settings
from molecule_grpc.text import clean

_LOOK_SECONDS = 5.0
_RECONNECT_MS = 500


class Watch:
    """Streams the present state of a delegation, again after every change."""

    def __init__(
        self,
        ledger: Ledger,
        wakeups: Wakeups,
        authenticator: Authenticator,
        sessions: Sessions,
        settings: Settings,
    ) -> None:
        self._ledger = ledger
        self._wakeups = wakeups
        self._authenticator = authenticator
        self._sessions = sessions
        self._beat = settings.inbox_beat
        self._max_age = settings.inbox_max_age

    async def watch(
        self, request: pb.WatchDelegationRequest, call: Call
    ) -> AsyncIterator[pb.WatchDelegationResponse]:
        """Frames until the delegation ends; the last one is an End."""
        opened = False
        try:
            async for frame in self._frames(request, call):
                opened = True
                yield frame
        except MoleculeError as error:
            if opened:
                failure = render(error)
                yield pb.WatchDelegationResponse(
                    end=inbox_pb2.End(
                        code=int(failure.code), reason=failure.reason, message=failure.message
                    )
                )
            raise
        yield pb.WatchDelegationResponse(end=inbox_pb2.End())

    async def _frames(
        self, request: pb.WatchDelegationRequest, call: Call
    ) -> AsyncIterator[pb.WatchDelegationResponse]:
        get = pb.GetDelegationRequest(
            workspace_id=request.workspace_id, delegation_id=request.delegation_id
        )
        shown: delegation_pb2.Delegation | None = None
        started = quiet_since = time.monotonic()
        key = delegation_key(clean(request.delegation_id))
        with contextlib.ExitStack() as stack:
            flag = stack.enter_context(self._wakeups.watch(key))
            revocation = self._authenticator.revocation(
                call.metadata.get("authorization"), flag.set
            )
            revoked = stack.enter_context(revocation)
            stack.enter_context(self._sessions.attend(flag))
            while True:
                flag.clear()
                if revoked:
                    raise Unauthenticated("the token was revoked")
                found = await self._ledger.get(get)
                if found != shown:
                    shown = found
                    quiet_since = time.monotonic()
                    yield pb.WatchDelegationResponse(delegation=found)
                    if delegation_pb2.Delegation.Status.Name(found.status) in rules.FINAL:
                        return
                if self._sessions.draining or time.monotonic() - started > self._max_age:
                    drain = inbox_pb2.Drain(reconnect_after_ms=_RECONNECT_MS)
                    yield pb.WatchDelegationResponse(drain=drain)
                    raise Unavailable("the stream is drained, reconnect", reason="DRAINING")
                if time.monotonic() - quiet_since >= self._beat:
                    quiet_since = time.monotonic()
                    beat = inbox_pb2.Beat()
                    beat.server_time.GetCurrentTime()
                    yield pb.WatchDelegationResponse(beat=beat)
                rest = self._beat - (time.monotonic() - quiet_since)
                await flag.wait(max(0.01, min(rest, _LOOK_SECONDS)))
