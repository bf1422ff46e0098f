"""Commands beside an agent: output, typed input, and exit code."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias
from uuid import UUID

import structlog

from molecule_grpc.backends.access import refusals
from molecule_grpc.backends.access.ahead import Ahead
from molecule_grpc.backends.access.log_stream import CROWDED_SECONDS, Beat
from molecule_grpc.backends.access.ports import AccessRows
from molecule_grpc.backends.access.targets import Targets
from molecule_grpc.backends.contract.entering import ExecOutput, ExecSession, TerminalSize
from molecule_grpc.backends.contract.names import Capability
from molecule_grpc.kernel.budget import Budget
from molecule_grpc.kernel.errors import MoleculeError
from molecule_grpc.kernel.metered import charged
from molecule_grpc.kernel.payer import OPERATOR_PAYS, payer
from molecule_grpc.server.streams import StreamGuard

log = structlog.get_logger(__name__)

# Beginning a command, a signal, another size: each takes an engine milliseconds.
_ENGINE_SECONDS: Final = 10.0
# Less than the shortest time after which a workspace is idle, which is a minute.
_TOUCH_SECONDS: Final = 20.0
_SHELL: Final = ("sh",)


@dataclass(frozen=True, slots=True)
class Typed:
    """Bytes for the command's input."""

    data: bytes


@dataclass(frozen=True, slots=True)
class EndOfInput:
    """The command's input has ended."""


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal, by its name without SIG."""

    name: str


ClientFrame: TypeAlias = Typed | EndOfInput | Signal | TerminalSize


@dataclass(frozen=True, slots=True)
class Started:
    """The command runs."""


@dataclass(frozen=True, slots=True)
class Exited:
    """The command has ended."""

    code: int


Frame: TypeAlias = Started | ExecOutput | Exited | Beat


class Terminals:
    """Runs commands in workloads.

    Args:
        budget: what reaches into workspaces at once.
    """

    def __init__(self, targets: Targets, rows: AccessRows, budget: Budget) -> None:
        self._targets = targets
        self._rows = rows
        self._budget = budget

    async def run(
        self,
        workspace_id: UUID,
        argv: Sequence[str],
        terminal: TerminalSize | None,
        client: AsyncIterator[ClientFrame],
        guard: StreamGuard,
    ) -> AsyncGenerator[Frame, None]:
        """The frames of one command, which ends with its stream. Refusals come before the first.

        Args:
            argv: empty for a shell.

        Raises:
            MoleculeError: as `Targets.find`, what the backend says, and what is wrong with the
                client's frames.
            Unavailable: DRAINING.
        """
        target = await self._targets.find(workspace_id, Capability.EXEC)
        with self._budget.use(1, **(payer.get() or OPERATOR_PAYS).keys):
            with refusals.translated():
                session = await target.backend.exec(
                    target.resource,
                    list(argv or _SHELL),
                    terminal=terminal,
                    deadline=_ENGINE_SECONDS,
                )
            async with contextlib.AsyncExitStack() as stack:
                stack.push_async_callback(_end, session)
                opened = _Session(session, guard)
                for work in (opened.read(), opened.listen(client), self._stay_awake(workspace_id)):
                    await stack.enter_async_context(_beside(charged(work)))
                async for frame in opened.frames():
                    yield frame

    async def _stay_awake(self, workspace_id: UUID) -> None:
        """Keep the workspace from hibernating under the command."""
        while True:
            try:
                await self._rows.touch_active([(workspace_id, datetime.now(UTC))])
            except MoleculeError as error:
                log.warning("an open terminal was not noted", cause=error.reason)
            await asyncio.sleep(_TOUCH_SECONDS)


class _Session:
    """A running command and the client's stream."""

    def __init__(self, session: ExecSession, guard: StreamGuard) -> None:
        self._session = session
        self._guard = guard
        self._printed = Ahead[ExecOutput](lambda output: len(output.data), guard.wake)
        self._error: Exception | None = None
        self._exit_code: int | None = None
        self._left = False

    async def read(self) -> None:
        """Read the command's output, then wait for the exit code."""
        await self._printed.fill(self._session.output())
        try:
            with refusals.translated():
                self._exit_code = await self._session.exit_code()
        except Exception as error:  # noqa: BLE001  (the stream ends with this error)
            self._error = error
        self._guard.wake()

    async def listen(self, client: AsyncIterator[ClientFrame]) -> None:
        """Act on the client's frames, one after the other."""
        try:
            async for frame in client:
                with refusals.translated():
                    await self._act(frame)
            await self._session.close_input()
        except Exception as error:  # noqa: BLE001  (the stream ends with this error)
            self._error = error
            self._guard.wake()
        except asyncio.CancelledError:
            # The host says so where the client has left; a later write would be too late by a beat.
            self._left = True
            self._guard.wake()
            raise

    async def frames(self) -> AsyncGenerator[Frame, None]:
        """What the client is sent."""
        guard = self._guard
        yield Started()
        while True:
            guard.check()
            while not guard.crowded and (output := self._printed.pop()) is not None:
                guard.spoke()
                yield output
            if self._exit_code is not None and self._printed.over:
                yield Exited(self._exit_code)
                return
            if self._error is not None:
                raise self._error
            if self._left:
                return
            if guard.over:
                raise guard.drained_error()
            if guard.beat_due():
                yield Beat()
            await guard.wait(CROWDED_SECONDS if guard.crowded else math.inf)

    async def _act(self, frame: ClientFrame) -> None:
        session = self._session
        match frame:
            case Typed(data):
                await session.write(data)  # As slowly as the command reads.
            case EndOfInput():
                await session.close_input()
            case Signal(name):
                async with asyncio.timeout(_ENGINE_SECONDS):
                    await session.signal(name)
            case TerminalSize():
                async with asyncio.timeout(_ENGINE_SECONDS):
                    await session.resize(frame)


@contextlib.asynccontextmanager
async def _beside(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Something goes on while inside."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _end(session: ExecSession) -> None:
    """End a command, also when whoever waits for that is cancelled."""
    try:
        await asyncio.shield(asyncio.ensure_future(session.close()))
    except Exception as error:  # noqa: BLE001  (the command's stream has ended already)
        log.warning("a command was not ended", cause=repr(error))
