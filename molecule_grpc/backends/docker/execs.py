"""Commands inside a container, beside the agent."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Any, Final

from aiodocker.exceptions import DockerError
from aiodocker.execs import Exec
from aiodocker.stream import Stream

from molecule_grpc.backends.contract.entering import ExecOutput, TerminalSize
from molecule_grpc.backends.contract.failures import Refused
from molecule_grpc.backends.contract.names import BackendName
from molecule_grpc.backends.docker.engine import Engine
from molecule_grpc.backends.docker.failures import calling, is_missing
from molecule_grpc.backends.docker.names import Json

_STANDARD_ERROR: Final = 2
_MARK: Final = "MOLECULE_EXEC"
_SIGNALS: Final = frozenset({"HUP", "INT", "QUIT", "TERM", "KILL", "USR1", "USR2", "WINCH", "CONT"})
_END_POLL_SECONDS: Final = 0.05
_CLOSE_SECONDS: Final = 10.0
_CALL_SECONDS: Final = 10.0
# Of a command whose container is gone.
_KILLED: Final[Json] = {"Running": False, "ExitCode": 137}
# The engine sends no signals to what it runs beside the agent: whoever bears the mark gets it.
_SEND: Final = (
    'for each in /proc/[0-9]*; do grep -q "$1" "$each/environ" 2>/dev/null'
    ' && kill -"$2" "${each#/proc/}" 2>/dev/null; done; true'
)


class DockerExec:
    """A command that runs, or has run; `start_exec` makes one."""

    def __init__(self, engine: Engine, container_id: str, exec_id: str, mark: str) -> None:
        self._engine = engine
        self._container_id = container_id
        self._exec_id = exec_id
        self._mark = mark
        self._stream: Stream | None = None

    async def open(self, *, terminal: bool) -> None:
        """Run the command, attached to this process."""
        self._stream = Exec(self._engine.lasting, self._exec_id, terminal).start(detach=False)
        await self._stream.__aenter__()

    async def output(self) -> AsyncIterator[ExecOutput]:
        """The command's output, until the command ends."""
        assert self._stream is not None
        while True:
            async with calling(None):
                message = await self._stream.read_out()
            if message is None:
                return
            yield ExecOutput(message.data, error=message.stream == _STANDARD_ERROR)

    async def write(self, data: bytes) -> None:
        """Bytes for the command's standard input; for nobody where the command has ended."""
        if self._stream is not None and self._transport() is not None:
            with contextlib.suppress(OSError):
                await self._stream.write_in(data)

    async def close_input(self) -> None:
        """The command reads the end of its input."""
        transport = self._transport()
        if transport is not None and transport.can_write_eof():
            transport.write_eof()

    async def resize(self, size: TerminalSize) -> None:
        """The terminal has another size now; nothing where the command has ended."""
        path = f"exec/{self._exec_id}/resize"
        async with calling(_CALL_SECONDS):
            while True:
                try:
                    await self._engine.post(path, h=size.rows, w=size.columns)
                except DockerError:
                    found = await self._inspect()
                    if found["Running"]:
                        raise
                    if found["ExitCode"] is not None:
                        return
                    # Not begun yet: the engine answers a start before the command runs.
                    await asyncio.sleep(_END_POLL_SECONDS)
                else:
                    return

    async def signal(self, name: str) -> None:
        """Send a signal to the command and what it has started."""
        if name not in _SIGNALS:
            raise Refused(BackendName.DOCKER, f"the signal {name}")
        argv = ["sh", "-c", _SEND, "sh", self._mark, name]
        async with calling(_CALL_SECONDS):
            sender = await start_exec(self._engine, self._container_id, argv, terminal=None)
            try:
                await sender.exit_code()
            finally:
                await sender.release()

    async def exit_code(self) -> int:
        """Wait for the command's end; with its container a command is killed."""
        while True:
            async with calling(None):
                found = await self._inspect()
            if not found["Running"] and found["ExitCode"] is not None:
                return int(found["ExitCode"])
            await asyncio.sleep(_END_POLL_SECONDS)

    async def close(self) -> None:
        """End the command if the command still runs, and free its streams.

        The engine would let it run on: it does not end with its reader.
        """
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    if (await self._inspect())["Running"]:
                        await self.signal("HUP")
                        await self.signal("KILL")
        finally:
            await self.release()

    async def release(self) -> None:
        """Close the connection."""
        if self._stream is not None:
            await self._stream.close()
            self._stream = None

    async def _inspect(self) -> Json:
        """What the engine knows of the command."""
        try:
            found: Json = await self._engine.get(f"exec/{self._exec_id}/json")
        except DockerError as error:
            if is_missing(error):
                return _KILLED
            raise
        return found

    def _transport(self) -> asyncio.WriteTransport | None:
        response: Any = getattr(self._stream, "_resp", None)
        connection = response.connection if response is not None else None
        return None if connection is None else connection.transport


async def start_exec(
    engine: Engine,
    container_id: str,
    argv: list[str],
    *,
    terminal: TerminalSize | None,
    user: str = "",
) -> DockerExec:
    """Run a command.

    Args:
        user: as whom; empty for the image's own.

    Raises:
        DockerError: 404: there is no such container; 409: it does not run.
    """
    mark = f"{_MARK}={uuid.uuid4().hex}"
    body = {
        "Cmd": argv,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": terminal is not None,
        "Env": [mark],
        "User": user,
    }
    made = await engine.post(f"containers/{container_id}/exec", body)
    session = DockerExec(engine, container_id, made["Id"], mark)
    await session.open(terminal=terminal is not None)
    if terminal is not None:
        await session.resize(terminal)
    return session


async def run(
    engine: Engine, container_id: str, argv: list[str], *, most: int, user: str = ""
) -> tuple[int, bytes, bytes]:
    """Run a short command. Exit code, output and errors; one byte above `most` means cut off."""
    session = await start_exec(engine, container_id, argv, terminal=None, user=user)
    printed, errors = bytearray(), bytearray()
    try:
        await session.close_input()
        async for output in session.output():
            (errors if output.error else printed).extend(output.data)
            if max(len(printed), len(errors)) > most:
                await session.signal("KILL")
                break
        return await session.exit_code(), bytes(printed[: most + 1]), bytes(errors[: most + 1])
    finally:
        await session.release()
