"""The ways into a machine: files, logs, terminals, and the console underneath."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from molecule_grpc.backends.closed import Closed
from molecule_grpc.backends.contract.backend import LOG_SECONDS
from molecule_grpc.backends.contract.entering import ExecSession, FileEntry, LogChunk, TerminalSize
from molecule_grpc.backends.contract.failures import FileMissing, WorkloadMissing
from molecule_grpc.backends.contract.names import BackendName
from molecule_grpc.backends.contract.workloads import Resource
from molecule_grpc.backends.ec2 import execs
from molecule_grpc.backends.ec2.calls import Calls, calling
from molecule_grpc.backends.ec2.files import Files
from molecule_grpc.backends.ec2.machines import RUNNING, Machine, Machines
from molecule_grpc.backends.ec2.ssh import Sessions
from molecule_grpc.backends.pacing import paced
from molecule_grpc.settings.ec2 import Ec2Settings

_CONSOLE_CHARACTERS: Final = 64 * 1024


class Entering(Closed):
    """The part of the backend that goes into machines. A machine that rests cannot be entered."""

    name = BackendName.EC2

    def __init__(self, calls: Calls, machines: Machines, settings: Ec2Settings) -> None:
        self._calls = calls
        self._machines = machines
        self._sessions = Sessions(calls, settings)
        self._files = Files(self._sessions, log_file=settings.log_file)

    async def logs(
        self,
        resource: Resource,
        *,
        since: int = 0,
        follow: bool = False,
        tail: int = 0,
        deadline: float = LOG_SECONDS,
    ) -> AsyncGenerator[LogChunk, None]:
        """What the agent printed. Positions count bytes of its log file."""
        async with calling(deadline):
            machine = await self._running(resource)
        chunks = self._files.log(machine, since=since, follow=follow, tail=tail)
        async with contextlib.aclosing(
            paced(chunks, deadline, None if follow else deadline, calling)
        ) as log:
            # An agent that never started has printed nothing.
            with contextlib.suppress(FileMissing):
                async for chunk in log:
                    yield chunk

    async def exec(
        self,
        resource: Resource,
        argv: list[str],
        *,
        terminal: TerminalSize | None = None,
        deadline: float,
    ) -> ExecSession:
        """Run a command as the machine's account."""
        async with calling(deadline):
            machine = await self._running(resource)
            return await execs.start(self._sessions, machine, argv, terminal)

    async def read_file(
        self, resource: Resource, path: str, *, deadline: float
    ) -> AsyncGenerator[bytes, None]:
        """A file's bytes."""
        async with calling(deadline):
            machine = await self._running(resource)
        chunks = self._files.read(machine, path)
        async with contextlib.aclosing(paced(chunks, deadline, deadline, calling)) as pieces:
            async for piece in pieces:
                yield piece

    async def write_file(
        self,
        resource: Resource,
        path: str,
        content: AsyncIterator[bytes],
        size: int,
        *,
        deadline: float,
    ) -> None:
        """Replace a file."""
        async with calling(deadline):
            await self._files.write(await self._running(resource), path, content, size)

    async def list_files(
        self, resource: Resource, path: str, *, limit: int, depth: int = 5, deadline: float
    ) -> list[FileEntry]:
        """Files and directories below a directory."""
        async with calling(deadline):
            return await self._files.entries(await self._running(resource), path, limit, depth)

    async def delete_file(self, resource: Resource, path: str, *, deadline: float) -> None:
        """Delete a file."""
        async with calling(deadline):
            await self._files.delete(await self._running(resource), path)

    async def console(self, resource: Resource, *, deadline: float) -> str:
        """The end of what the machine printed while it booted; EC2 updates it now and then."""
        async with calling(deadline):
            machine = next(iter(await self._machines.find(resource)), None)
            if machine is None:
                raise WorkloadMissing(str(resource.workspace_id))
            answer = await self._calls.ec2("get_console_output", InstanceId=machine.id)
        return str(answer.get("Output", ""))[-_CONSOLE_CHARACTERS:]

    async def _running(self, resource: Resource) -> Machine:
        for machine in await self._machines.find(resource):
            if machine.state == RUNNING:
                return machine
        raise WorkloadMissing(str(resource.workspace_id))
