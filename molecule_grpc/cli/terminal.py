"""Joins the terminal of a person with one in a workspace, and gives the person's back as it was."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import termios
import tty
from collections.abc import AsyncIterator, Iterator

from molecule_grpc.client.terminal import Terminal

_READ_BYTES = 64 * 1024
# Signals that mean the command and not this program.
_PASSED_ON = {signal.SIGINT: "INT", signal.SIGTERM: "TERM", signal.SIGQUIT: "QUIT"}


def size_here() -> tuple[int, int]:
    """Columns and rows of the person's terminal; 80 and 24 where there is none.

    Not `shutil.get_terminal_size`: a shell that exports COLUMNS and LINES keeps the old ones there
    when the window changes.
    """
    found = os.terminal_size((80, 24))
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            found = os.get_terminal_size(stream.fileno())
            break
    return max(1, min(found.columns, 1000)), max(1, min(found.lines, 1000))


async def join(terminal: Terminal, *, interactive: bool) -> int:
    """Pass input, signals and sizes on, print what comes, and return the exit code.

    Args:
        interactive: each key goes to the command at once, also Ctrl-C.
    """
    with _raw() if interactive else contextlib.nullcontext(), _signals(terminal, interactive):
        typing = asyncio.create_task(_type(terminal))
        try:
            async for output in terminal.output():
                _print(output.data, error=output.error)
        finally:
            typing.cancel()
            await asyncio.gather(typing, return_exceptions=True)
    assert terminal.exit_code is not None
    return terminal.exit_code


async def _type(terminal: Terminal) -> None:
    async for data in _typed():
        await terminal.write(data)
    await terminal.end_input()


async def _typed() -> AsyncIterator[bytes]:
    """What arrives at standard input; a thread that waits for a key would not let go."""
    descriptor = sys.stdin.fileno()
    while True:
        try:
            await _readable(descriptor)
        except PermissionError:
            # No selector takes a plain file, which is always ready.
            data = await asyncio.to_thread(os.read, descriptor, _READ_BYTES)
        else:
            data = os.read(descriptor, _READ_BYTES)
        if not data:
            return
        yield data


async def _readable(descriptor: int) -> None:
    """Wait until there is something to read, once: a second read would block the loop."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


def _print(data: bytes, *, error: bool) -> None:
    stream = sys.stderr.buffer if error else sys.stdout.buffer
    stream.write(data)
    stream.flush()


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """Every key as it is typed, while inside; whatever happens, the terminal is as before."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        # Without the usual flush, which would throw away what was typed ahead.
        tty.setraw(descriptor, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _signals(terminal: Terminal, interactive: bool) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    sending: set[asyncio.Task[None]] = set()

    def send(name: str) -> None:
        resized = name == "WINCH"
        work = terminal.resize(*size_here()) if resized else terminal.signal(name)
        task = loop.create_task(work)
        sending.add(task)
        task.add_done_callback(sending.discard)

    passed_on = {signal.SIGWINCH: "WINCH"} if interactive else dict(_PASSED_ON)
    for number, name in passed_on.items():
        loop.add_signal_handler(number, send, name)
    try:
        yield
    finally:
        for number in passed_on:
            loop.remove_signal_handler(number)
