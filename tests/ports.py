"""TCP ports for servers of tests: no two processes of one machine are given the same one."""

from __future__ import annotations

import fcntl
import functools
import itertools
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Below the ports that Linux (32768) and macOS (49152) lend to outgoing connections: a connection
# cannot take a port between the choice of the number and the server's bind.
_FIRST = 20_000
_BLOCK_SIZE = 250
_BLOCKS = 48


class PortBlock:
    """250 port numbers of this process, in turn. The kernel frees the block with the process."""

    def __init__(self) -> None:
        """Take the first block that no living process has.

        Raises RuntimeError when all 48 are taken.
        """
        directory = Path(tempfile.gettempdir()) / f"molecule-test-ports-{os.getuid()}"
        directory.mkdir(mode=0o700, exist_ok=True)
        for block in range(_BLOCKS):
            # Children inherit no descriptor, so the lock ends with this process alone.
            lock = os.open(directory / str(block), os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            first = _FIRST + block * _BLOCK_SIZE
            self._numbers: Iterator[int] = itertools.cycle(range(first, first + _BLOCK_SIZE))
            return
        raise RuntimeError(f"all {_BLOCKS} blocks of ports are taken: {directory}")

    def take(self) -> int:
        """The next port of the block that nobody listens at."""
        for number in itertools.islice(self._numbers, _BLOCK_SIZE):
            with socket.socket() as probe:
                # A server binds over what closed connections leave behind, and so does the probe.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", number))
                except OSError:
                    continue
                return number
        raise RuntimeError("somebody listens at every port of this process' block")


def free_port() -> int:
    """A TCP port that nobody has, and that no other process of tests will be given."""
    return _block().take()


@functools.cache
def _block() -> PortBlock:
    return PortBlock()
