"""What goes into a workload and comes out: output, files, commands, measurements."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import NamedTuple, Protocol


class LogChunk(NamedTuple):
    """Bytes that the agent printed; `offset` is the position behind them.

    Positions grow, and say nothing else: an engine that throws old lines away cannot count bytes.
    """

    offset: int
    data: bytes


class FileEntry(NamedTuple):
    """A file or a directory. `path` is relative to the directory that was listed."""

    path: str
    size: int
    directory: bool
    modified_at: datetime | None


class Usage(NamedTuple):
    """What a workload uses now. `cpu` counts processors: 1.5 is one and a half."""

    cpu: float
    memory_bytes: int
    memory_limit_bytes: int
    pids: int


class TerminalSize(NamedTuple):
    """In characters."""

    columns: int
    rows: int


class ExecOutput(NamedTuple):
    """What a command printed. With a terminal all of it is standard output."""

    data: bytes
    error: bool = False


class ExecSession(Protocol):
    """A command that runs beside the agent. Closing it ends the command."""

    def output(self) -> AsyncIterator[ExecOutput]:
        """The command's output, until the command ends."""
        ...

    async def write(self, data: bytes) -> None:
        """Bytes for the command's standard input."""
        ...

    async def close_input(self) -> None:
        """The command reads the end of its input."""
        ...

    async def resize(self, size: TerminalSize) -> None:
        """The terminal has another size now."""
        ...

    async def signal(self, name: str) -> None:
        """Send a signal, by its name without SIG. Raises `Refused` where the engine cannot."""
        ...

    async def exit_code(self) -> int:
        """Wait for the command's end."""
        ...

    async def close(self) -> None:
        """End a running command, and free its connection."""
        ...
