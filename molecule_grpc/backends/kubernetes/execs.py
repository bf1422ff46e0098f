"""Commands inside a pod, beside the agent, over the API server's streams."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from typing import Final

import aiohttp

from molecule_grpc.backends.contract.entering import ExecOutput, TerminalSize
from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason, Refused
from molecule_grpc.backends.contract.names import BackendName
from molecule_grpc.backends.kubernetes import names
from molecule_grpc.backends.kubernetes.cluster import Cluster

# The fifth version can say that the input has ended; servers have it since 1.30.
_PROTOCOLS: Final = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_INPUT, _OUTPUT, _ERRORS, _END, _RESIZE, _CLOSE = 0, 1, 2, 3, 4, 255
_MARK: Final = "MOLECULE_EXEC"
_SIGNALS: Final = frozenset({"HUP", "INT", "QUIT", "TERM", "KILL", "USR1", "USR2", "WINCH", "CONT"})
_MARKED: Final = f'export {_MARK}="$1"; shift; exec "$@"'
# The cluster sends no signals to what it runs beside the agent: whoever bears the mark gets it.
_SEND: Final = (
    f'for each in /proc/[0-9]*; do grep -q "{_MARK}=$1" "$each/environ" 2>/dev/null'
    ' && kill -"$2" "${each#/proc/}" 2>/dev/null; done; true'
)
_CLOSE_SECONDS: Final = 10.0


class PodExec:
    """A command that runs, or has run; `start_exec` makes one."""

    def __init__(self, cluster: Cluster, pod: str, mark: str) -> None:
        self._cluster = cluster
        self._pod = pod
        self._mark = mark
        self._stack = contextlib.AsyncExitStack()
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._exit_code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def open(self, argv: list[str], terminal: TerminalSize | None) -> None:
        """Run the command, attached to this process. Raises `ApiError`."""
        yes_no = {True: "true", False: "false"}
        words = ["sh", "-c", _MARKED, "sh", self._mark, *argv]
        query = [
            ("container", names.CONTAINER),
            ("stdin", "true"),
            ("stdout", "true"),
            ("stderr", yes_no[terminal is None]),
            ("tty", yes_no[terminal is not None]),
            *(("command", word) for word in words),
        ]
        path = f"/api/v1/namespaces/{self._cluster.namespace}/pods/{self._pod}/exec"
        connection = self._cluster.websocket(path, query, _PROTOCOLS)
        self._socket = await self._stack.enter_async_context(connection)
        if terminal is not None:
            await self.resize(terminal)

    async def output(self) -> AsyncIterator[ExecOutput]:
        """The command's output, until the command ends."""
        assert self._socket is not None
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                continue
            channel, data = message.data[0], message.data[1:]
            if channel == _END:
                self._ended(data)
                return
            if data and channel in (_OUTPUT, _ERRORS):
                yield ExecOutput(data, error=channel == _ERRORS)
        if not self._exit_code.done():
            self._exit_code.set_exception(_lost())

    async def write(self, data: bytes) -> None:
        """Bytes for the command's standard input."""
        await self._send(_INPUT, data)

    async def close_input(self) -> None:
        """The command reads the end of its input. Nothing on servers before 1.30."""
        assert self._socket is not None
        if self._socket.protocol == _PROTOCOLS[0]:
            await self._send(_CLOSE, bytes([_INPUT]))

    async def resize(self, size: TerminalSize) -> None:
        """The terminal has another size now."""
        await self._send(_RESIZE, json.dumps({"Width": size.columns, "Height": size.rows}).encode())

    async def signal(self, name: str) -> None:
        """Send a signal to the command and what it has started."""
        if name not in _SIGNALS:
            raise Refused(BackendName.KUBERNETES, f"the signal {name}")
        await run(self._cluster, self._pod, ["sh", "-c", _SEND, "sh", self._mark, name], most=1024)

    async def exit_code(self) -> int:
        """Wait for the command's end. What it still prints is dropped."""
        if not self._exit_code.done():
            async for _ in self.output():
                pass
        return await self._exit_code

    async def close(self) -> None:
        """End the command if the command still runs, and free its streams.

        The cluster would let it run on: it does not end with its reader.
        """
        try:
            if not self._exit_code.done():
                with contextlib.suppress(TimeoutError, BackendFailure):
                    async with asyncio.timeout(_CLOSE_SECONDS):
                        await self.signal("HUP")
                        await self.signal("KILL")
        finally:
            await self.release()

    async def release(self) -> None:
        """Close the connection."""
        if not self._exit_code.done():
            self._exit_code.cancel()
        elif not self._exit_code.cancelled():
            self._exit_code.exception()  # Read, or the loop complains that nobody did.
        await self._stack.aclose()

    async def _send(self, channel: int, data: bytes) -> None:
        assert self._socket is not None
        try:
            await self._socket.send_bytes(bytes([channel]) + data)
        except ConnectionError as error:
            raise _lost() from error

    def _ended(self, data: bytes) -> None:
        """The last message is a Status: success, or a cause with the exit code."""
        status = json.loads(data)
        if status.get("status") == "Success":
            self._exit_code.set_result(0)
            return
        causes = (status.get("details") or {}).get("causes") or []
        codes = [each["message"] for each in causes if each.get("reason") == "ExitCode"]
        if codes:
            self._exit_code.set_result(int(codes[0]))
        else:
            failure = BackendFailure(
                FailureReason.ENGINE,
                "the command could not be run",
                detail=str(status.get("message", "")),
            )
            self._exit_code.set_exception(failure)


async def start_exec(
    cluster: Cluster, pod: str, argv: list[str], *, terminal: TerminalSize | None
) -> PodExec:
    """Run a command. Raises `ApiError`: 404, there is no such pod; 400 or 500, it does not run."""
    session = PodExec(cluster, pod, uuid.uuid4().hex)
    try:
        await session.open(argv, terminal)
    except BaseException:
        await session.release()
        raise
    return session


async def run(
    cluster: Cluster, pod: str, argv: list[str], *, most: int
) -> tuple[int, bytes, bytes]:
    """Run a short command to its end. Exit code, output and errors, at most so many bytes each."""
    session = await start_exec(cluster, pod, argv, terminal=None)
    printed, errors = bytearray(), bytearray()
    try:
        async for output in session.output():
            (errors if output.error else printed).extend(output.data)
            if max(len(printed), len(errors)) > most:
                await session.close()
                return 0, bytes(printed[:most]), bytes(errors[:most])
        return await session.exit_code(), bytes(printed[:most]), bytes(errors[:most])
    finally:
        await session.release()


def _lost() -> BackendFailure:
    return BackendFailure(
        FailureReason.UNREACHABLE, "the connection to the command was lost", retryable=True
    )
