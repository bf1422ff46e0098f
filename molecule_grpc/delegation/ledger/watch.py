"""Watching one delegation until it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator

from moleculeai.delegation.v1 import delegation_pb2, inbox_pb2
from moleculeai.delegation.v1 import delegation_service_pb2 as pb

from molecule_grpc.db.wakeups import Wakeups, delegation_key
from molecule_grpc.delegation.ledger import rules
from molecule_grpc.delegation.ledger.ledger import Ledger
from molecule_grpc.kernel.errors import MoleculeError
from molecule_grpc.kernel.text import clean
from molecule_grpc.server.call import Call
from molecule_grpc.server.status import render
from molecule_grpc.server.streams import StreamGuards

_LOOK_SECONDS = 5.0
_RECONNECT_MS = 500


class Watch:
    """Streams the present state of a delegation, again after every change."""

    def __init__(self, ledger: Ledger, wakeups: Wakeups, guards: StreamGuards) -> None:
        self._ledger = ledger
        self._wakeups = wakeups
        self._guards = guards

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
        key = delegation_key(clean(request.delegation_id))
        with self._wakeups.watch(key) as flag, self._guards.watch(flag, call) as guard:
            while True:
                guard.check()
                found = await self._ledger.get(get)
                if found != shown:
                    shown = found
                    guard.spoke()
                    yield pb.WatchDelegationResponse(delegation=found)
                    if delegation_pb2.Delegation.Status.Name(found.status) in rules.FINAL:
                        return
                if guard.over:
                    drain = inbox_pb2.Drain(reconnect_after_ms=_RECONNECT_MS)
                    yield pb.WatchDelegationResponse(drain=drain)
                    raise guard.drained_error()
                if guard.beat_due():
                    beat = inbox_pb2.Beat()
                    beat.server_time.GetCurrentTime()
                    yield pb.WatchDelegationResponse(beat=beat)
                await guard.wait(_LOOK_SECONDS)
