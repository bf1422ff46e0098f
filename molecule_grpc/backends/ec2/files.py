"""Files and logs of a workspace on its machine."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime

from molecule_grpc.backends.contract.entering import FileEntry, LogChunk
from molecule_grpc.backends.contract.failures import TooManyFiles
from molecule_grpc.backends.ec2 import commands
from molecule_grpc.backends.ec2.machines import Machine
from molecule_grpc.backends.ec2.places import config_directory, on_machine
from molecule_grpc.backends.ec2.ssh import Sessions


class Files:
    """Reads and writes with root's rights, over SSH."""

    def __init__(self, sessions: Sessions, *, log_file: str) -> None:
        self._sessions = sessions
        self._log_file = log_file

    async def read(self, machine: Machine, path: str) -> AsyncGenerator[bytes, None]:
        """A file's bytes. An empty piece comes first, as soon as the file is found."""
        place = on_machine(path, machine.runtime)
        async with (
            self._sessions.to(machine) as connection,
            contextlib.aclosing(
                commands.output(connection, commands.READ, place, _base(machine))
            ) as chunks,
        ):
            first = await anext(chunks)
            yield b""
            if len(first) > 1:
                yield first[1:]
            async for chunk in chunks:
                yield chunk

    async def write(
        self, machine: Machine, path: str, content: AsyncIterator[bytes], size: int
    ) -> None:
        """Replace a file at once, with the directories above it."""
        place = on_machine(path, machine.runtime)
        given = (place, _base(machine), uuid.uuid4().hex, str(size))
        async with self._sessions.to(machine) as connection:
            await commands.feed(connection, content, commands.WRITE, *given)

    async def entries(self, machine: Machine, path: str, limit: int, depth: int) -> list[FileEntry]:
        """What lies below a directory. Raises `TooManyFiles`."""
        place = on_machine(path, machine.runtime)
        given = (place, _base(machine), str(depth), str(limit + 1))
        printed = bytearray()
        async with self._sessions.to(machine) as connection:
            async for chunk in commands.output(connection, commands.LIST, *given):
                printed += chunk
        records = bytes(printed).split(b"\0")[:-1]
        if len(records) > limit:
            raise TooManyFiles(path)
        return [_entry(record) for record in records]

    async def delete(self, machine: Machine, path: str) -> None:
        """Delete a file, or a link."""
        place = on_machine(path, machine.runtime)
        async with self._sessions.to(machine) as connection:
            async for _ in commands.output(connection, commands.DELETE, place, _base(machine)):
                pass

    async def log(
        self, machine: Machine, *, since: int, follow: bool, tail: int
    ) -> AsyncGenerator[LogChunk, None]:
        """What the agent printed; positions count bytes of the log file. An empty chunk first."""
        script = commands.LOG_ON_AND_ON if follow else commands.LOG_TO_THE_END
        given = (self._log_file, str(since), str(tail))
        async with (
            self._sessions.to(machine) as connection,
            contextlib.aclosing(commands.output(connection, script, *given)) as chunks,
        ):
            head, position = b"", -1
            async for chunk in chunks:
                data = chunk
                if position < 0:
                    head += chunk
                    first, found, data = head.partition(b"\n")
                    if not found:
                        continue
                    position = int(first)
                    yield LogChunk(position, b"")
                if data:
                    position += len(data)
                    yield LogChunk(position, data)


def _base(machine: Machine) -> str:
    return config_directory(machine.runtime)


def _entry(record: bytes) -> FileEntry:
    kind, size, moment, name = record.split(b" ", 3)
    return FileEntry(
        name.decode("utf-8", "surrogateescape"),
        int(size),
        kind == b"d",
        datetime.fromtimestamp(float(moment), UTC),
    )
