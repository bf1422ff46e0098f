"""A command that runs in a workspace, from outside."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple, Self

import grpc
from moleculeai.workspace.v1 import access_pb2
from moleculeai.workspace.v1 import workspace_service_pb2 as pb

from molecule_grpc.client.connection import Connection
from molecule_grpc.client.errors import to_call_error
from molecule_grpc.client.final_status import FinalStatus

_INPUT_BYTES = 64 * 1024


class Output(NamedTuple):
    """What a command printed; with a terminal all of it is standard output."""

    data: bytes
    error: bool


class Terminal:
    """One command. Enter it, read `output` to its end, then look at `exit_code`.

    Every method may raise `CallError`.
    """

    def __init__(self, connection: Connection, start: pb.ExecWorkspaceRequest.Start) -> None:
        self._connection = connection
        self._start = start
        self._call: Any = None
        self._status: FinalStatus | None = None
        # None until the command has ended.
        self.exit_code: int | None = None

    async def __aenter__(self) -> Self:
        self._call = self._connection.workspaces.ExecWorkspace(metadata=self._connection.metadata)
        self._status = FinalStatus(self._call)
        await self._send(pb.ExecWorkspaceRequest(start=self._start))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._call.cancel()

    async def output(self) -> AsyncIterator[Output]:
        """The command's output, until the command ends."""
        try:
            async for frame in self._call:
                match frame.WhichOneof("frame"):
                    case "output":
                        yield Output(frame.output, error=False)
                    case "error":
                        yield Output(frame.error, error=True)
                    case "exited":
                        self.exit_code = frame.exited.exit_code
        except grpc.aio.AioRpcError as error:
            raise await self._told(error) from error

    async def write(self, data: bytes) -> None:
        """Bytes for the command's input. Waits while the command does not read."""
        for start in range(0, len(data), _INPUT_BYTES):
            piece = data[start : start + _INPUT_BYTES]
            await self._send(pb.ExecWorkspaceRequest(input=piece))

    async def end_input(self) -> None:
        """The command reads the end of its input."""
        await self._send(pb.ExecWorkspaceRequest(end_input=pb.ExecWorkspaceRequest.EndInput()))

    async def resize(self, columns: int, rows: int) -> None:
        """The terminal has another size now."""
        size = access_pb2.TerminalSize(columns=columns, rows=rows)
        await self._send(pb.ExecWorkspaceRequest(resize=size))

    async def signal(self, name: str) -> None:
        """Send a signal to the command and what it has started, such as `INT`."""
        await self._send(pb.ExecWorkspaceRequest(signal=name))

    async def _send(self, request: pb.ExecWorkspaceRequest) -> None:
        try:
            await self._call.write(request)
        except grpc.aio.AioRpcError as error:
            raise await self._told(error) from error
        except grpc.aio.UsageError:
            # The command has ended: `output` says how.
            return

    async def _told(self, error: grpc.aio.AioRpcError) -> Exception:
        assert self._status is not None
        return to_call_error(await self._status.of(error))
