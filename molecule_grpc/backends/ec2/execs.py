"""Commands that people run on a workspace's machine, with or without a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import asyncssh

from molecule_grpc.backends.contract.entering import ExecOutput, TerminalSize
from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason, Refused
from molecule_grpc.backends.contract.names import BackendName
from molecule_grpc.backends.ec2.machines import Machine
from molecule_grpc.backends.ec2.ssh import Sessions

_TERMINAL: Final = "xterm-256color"
_CHUNK_BYTES: Final = 64 * 1024
# What OpenSSH's server knows.
_SIGNALS: Final = frozenset({"ABRT", "ALRM", "HUP", "INT", "KILL", "PIPE", "QUIT", "TERM"}) | {
    "USR1",
    "USR2",
}
_SIGNALLED: Final = 128


class MachineExec:
    """A command that runs, or has run; `start` makes one."""

    def __init__(
        self, process: asyncssh.SSHClientProcess[bytes], stack: contextlib.AsyncExitStack
    ) -> None:
        self._process = process
        self._stack = stack

    async def output(self) -> AsyncIterator[ExecOutput]:
        """The command's output, until the command ends."""
        printed: asyncio.Queue[ExecOutput | None] = asyncio.Queue(1)

        async def pump(stream: asyncssh.SSHReader[bytes], *, error: bool) -> None:
            try:
                while data := await stream.read(_CHUNK_BYTES):
                    await printed.put(ExecOutput(data, error=error))
            finally:
                await printed.put(None)

        streams = ((self._process.stdout, False), (self._process.stderr, True))
        pumps = [asyncio.create_task(pump(stream, error=error)) for stream, error in streams]
        try:
            left = len(pumps)
            while left:
                found = await printed.get()
                if found is None:
                    left -= 1
                else:
                    yield found
            for each in pumps:
                with _translated():
                    await each
        finally:
            for each in pumps:
                each.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def write(self, data: bytes) -> None:
        """Bytes for the command's standard input; nothing once the command has ended."""
        with contextlib.suppress(BrokenPipeError), _translated():
            self._process.stdin.write(data)
            await self._process.stdin.drain()

    async def close_input(self) -> None:
        """The command reads the end of its input."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write_eof()

    async def resize(self, size: TerminalSize) -> None:
        """The terminal has another size now."""
        self._process.change_terminal_size(size.columns, size.rows)

    async def signal(self, name: str) -> None:
        """Send a signal; nothing once the command has ended."""
        if name not in _SIGNALS:
            raise Refused(BackendName.EC2, f"the signal {name}")
        with contextlib.suppress(OSError):
            self._process.send_signal(name)

    async def exit_code(self) -> int:
        """Wait for the command's end. 128 and the signal's number, where a signal ended it."""
        with _translated():
            await self._process.wait(check=False)
        code = self._process.returncode
        if code is None:
            raise BackendFailure(FailureReason.UNREACHABLE, "the connection to the machine broke")
        return code if code >= 0 else _SIGNALLED - code

    async def close(self) -> None:
        """End the command if the command still runs, and close the connection."""
        with contextlib.suppress(OSError):
            self._process.send_signal("KILL")
        await self._stack.aclose()


async def start(
    sessions: Sessions, machine: Machine, argv: list[str], terminal: TerminalSize | None
) -> MachineExec:
    """Run a command as the machine's account. Raises as `Sessions.to` does."""
    given: dict[str, Any] = {}
    if terminal is not None:
        size = (terminal.columns, terminal.rows)
        given = {"request_pty": True, "term_type": _TERMINAL, "term_size": size}
    async with contextlib.AsyncExitStack() as stack:
        connection = await stack.enter_async_context(sessions.to(machine))
        process = await connection.create_process(
            f"exec {shlex.join(argv)}", encoding=None, **given
        )
        return MachineExec(process, stack.pop_all())
    raise AssertionError("unreachable")


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # The command has ended.
        raise
    except (asyncssh.Error, ConnectionError) as error:
        raise BackendFailure(
            FailureReason.UNREACHABLE,
            "the connection to the machine broke",
            detail=repr(error),
            retryable=True,
        ) from error
