"""What an operation does, step by step. Each step may be repeated by another worker.

A restart stops, then notes where the workspace is started, then starts. Whoever takes over sees by
the note which half is over, and asks the engine what has become of the other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol
from uuid import UUID

import structlog

from molecule_grpc.backends.contract.failures import BackendFailure
from molecule_grpc.backends.contract.workloads import Resource, Running, Started, StartRequest
from molecule_grpc.backends.dispatch import Dispatch
from molecule_grpc.backends.last_output import last_output, with_output
from molecule_grpc.backends.operations.rules import Kind, State
from molecule_grpc.backends.operations.values import Ending, Operation

log = structlog.get_logger(__name__)

_LAST_PAUSE_SECONDS: Final = 300.0
# After an undo, another look for what came late.
_LATE_SECONDS: Final = 60.0

# The start of a workspace, from its row. Raises `BackendFailure` for what can never start.
Prepare = Callable[[Operation], Awaitable[StartRequest]]


class Choose(Protocol):
    """Notes where a workspace is started."""

    async def __call__(self, operation: Operation, backend: str, *, left: bool) -> bool:
        """False where the operation is not ours. `left`: whether the old workload may still run."""
        ...


class Leave(Protocol):
    """Notes that an operation may have left something on its backend."""

    async def __call__(self, operation: Operation, backend: str, *, delay: float) -> None:
        """A later pass looks for it, not before `delay` seconds are over."""
        ...


# Keeps a workload's output before the removal. Failures of the engine are swallowed.
Keep = Callable[[str, Resource], Awaitable[None]]


class NotOurs(Exception):
    """Another worker has taken the operation over."""


class Execution:
    """Runs operations on the backends.

    Args:
        prepare: makes the request of a start.
        choose: notes where the workspace is started.
        leave: notes what a start may have left behind.
        keep: keeps what a workload printed.
        first_pause: seconds until a stop that failed is tried again; doubled after each, up to 300.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        prepare: Prepare,
        choose: Choose,
        leave: Leave,
        keep: Keep,
        *,
        first_pause: float,
    ) -> None:
        self._leave = leave
        self._keep = keep
        # Operations whose start was asked for here.
        self._begun: set[UUID] = set()
        self._first_pause = first_pause
        self._dispatch = dispatch
        self._prepare = prepare
        self._choose = choose

    def pause_after(self, attempt: int) -> float:
        """Seconds until a stop that failed so often is tried again."""
        return min(_LAST_PAUSE_SECONDS, self._first_pause * 2.0 ** min(attempt - 1, 20))

    async def perform(self, operation: Operation) -> Ending:
        """Do what the operation wants. Raises `NotOurs`."""
        if operation.kind.starts:
            return await self._start(operation)
        if operation.kind is Kind.STOP:
            await self._keep(operation.runs_on, operation.resource)
        try:
            await self._dispatch.stop(operation.runs_on, operation.resource)
            if operation.kind is Kind.REMOVE:
                await self._dispatch.remove_volumes(operation.runs_on, operation.workspace_id)
        except BackendFailure as failed:
            log.warning("a workspace was not stopped", failure=str(failed), **_named(operation))
            return Ending(
                state=State.FAILED,
                reason=failed.reason,
                message=failed.public,
                again_after=self.pause_after(operation.attempt),
            )
        return Ending(state=State.SUCCEEDED)

    async def undo(self, operation: Operation) -> None:
        """Remove what a start may have left.

        What remains is found by a later pass; and so is a workload that appears late, on an engine
        that lists nothing: the request may still be on its way there.
        """
        if not operation.backend and operation.id not in self._begun:
            return
        backend = operation.backend or self._dispatch.starts_on
        gone = await self._dispatch.stop_before_start(backend, operation.made, "undo")
        if not gone or not self._dispatch.lists(backend):
            await self._leave(operation, backend, delay=_LATE_SECONDS if gone else 0.0)
        # At the end: an undo that is cancelled in the middle is made again.
        self._begun.discard(operation.id)

    async def _start(self, operation: Operation) -> Ending:
        try:
            if operation.backend == self._dispatch.starts_on:
                if found := await self._found(operation):
                    return Ending(state=State.SUCCEEDED, started=found)
            else:
                await self._make_way(operation)
            request = await self._prepare(operation)
            self._begun.add(operation.id)
            started = await self._dispatch.start(request)
        except BackendFailure as failed:
            log.warning("a workspace was not started", failure=str(failed), **_named(operation))
            message = await self._explained(operation, failed)
            if failed.undone:
                self._begun.discard(operation.id)
            else:
                await self._keep(operation.backend or self._dispatch.starts_on, operation.made)
                await self.undo(operation)
            return Ending(
                state=State.FAILED, reason=failed.reason, message=message, missing=failed.missing
            )
        self._begun.discard(operation.id)
        return Ending(state=State.SUCCEEDED, started=started)

    async def _found(self, operation: Operation) -> Started | None:
        """The running workload that an earlier worker started for this operation; None for none."""
        found = await self._dispatch.status(operation.backend, operation.made)
        if isinstance(found, Running) and found.operation_id == operation.id:
            return Started(found.resource_id, found.url, found.image_digest)
        return None

    async def _make_way(self, operation: Operation) -> None:
        """Stop what runs of the workspace, and note where its new workload goes."""
        stopped = True
        if operation.backend:  # The worker before started where nothing is started any more.
            await self.undo(operation)
        if operation.kind is Kind.RESTART or operation.resource_id:
            await self._keep(operation.runs_on, operation.resource)
            stopped = await self._dispatch.stop_before_start(
                operation.runs_on, operation.resource, operation.source
            )
        if not await self._choose(operation, self._dispatch.starts_on, left=not stopped):
            raise NotOurs

    async def _explained(self, operation: Operation, failed: BackendFailure) -> str:
        """The failure with the last lines that the agent printed."""
        backend = operation.backend or self._dispatch.starts_on
        output = failed.output or await last_output(self._dispatch, backend, operation.made)
        return with_output(failed.public, output)


def _named(operation: Operation) -> dict[str, str]:
    return {
        "workspace_id": str(operation.workspace_id),
        "operation_id": str(operation.id),
        "kind": operation.kind,
        "backend": operation.backend or operation.runs_on,
    }
