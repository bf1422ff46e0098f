"""Network namespaces of this run's own: what listens or filters in one is seen nowhere else."""

from __future__ import annotations

import fcntl
import functools
import itertools
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

# Reserved for benchmarks of networks (RFC 2544): no machine is reached through it.
_NETWORK = "198.18"
_BLOCKS = 64


class Namespace:
    """A network namespace with a pair of interfaces between it and this machine.

    The machine has no route through it: programs inside reach this machine's end of the pair, and
    nothing beyond. Everything is gone after `close`.

    Args:
        name: part of the namespace's name, for people.
    """

    def __init__(self, name: str) -> None:
        block, number = _numbers()
        self.name = f"mg-{name}-{block}-{number}"
        # Four addresses for each pair: network, this machine, the namespace, broadcast.
        first = number * 4
        self.outside = f"{_NETWORK}.{block}.{first + 1}"
        self.inside = f"{_NETWORK}.{block}.{first + 2}"
        self._link = f"mg{block}x{number}"

    def open(self) -> Self:
        """Make the namespace and the pair."""
        inner = f"{self._link}i"
        _ip("netns", "add", self.name)
        self.ip("link", "set", "lo", "up")
        _ip("link", "add", self._link, "type", "veth", "peer", "name", inner, "netns", self.name)
        _ip("addr", "add", f"{self.outside}/30", "dev", self._link)
        _ip("link", "set", self._link, "up")
        self.ip("addr", "add", f"{self.inside}/30", "dev", inner)
        self.ip("link", "set", inner, "up")
        # An engine does not publish ports without a default route.
        self.ip("route", "add", "default", "via", self.outside)
        return self

    def open_unconnected(self) -> Self:
        """Make the namespace alone: nothing leads out of it."""
        _ip("netns", "add", self.name)
        self.ip("link", "set", "lo", "up")
        return self

    def close(self) -> None:
        """Remove both. The namespace's programs must have ended."""
        subprocess.run(["ip", "link", "del", self._link], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)

    def ip(self, *arguments: str) -> None:
        """Run `ip` for this namespace."""
        _ip("-n", self.name, *arguments)

    @property
    def entry(self) -> list[str]:
        """Put before a command, has the command run in this namespace.

        `ip netns exec` would mount /sys anew, where an engine then misses its control groups.
        """
        return ["nsenter", f"--net=/run/netns/{self.name}", "--"]

    @property
    def exists(self) -> bool:
        """Whether anything of it is left."""
        links = Path("/sys/class/net") / self._link
        return links.exists() or Path("/run/netns", self.name).exists()


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def _numbers() -> tuple[int, int]:
    block, counter = _block()
    return block, next(counter)


@functools.cache
def _block() -> tuple[int, Iterator[int]]:
    """A block of addresses that no other living process of tests has."""
    directory = Path(tempfile.gettempdir()) / "molecule-test-networks"
    directory.mkdir(mode=0o700, exist_ok=True)
    for block in range(_BLOCKS):
        lock = os.open(directory / str(block), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        _remove_leftovers(block)
        return block, itertools.count()
    raise RuntimeError(f"all {_BLOCKS} blocks of networks are taken: {directory}")


def _remove_leftovers(block: int) -> None:
    """What a killed session of the same block has left behind."""
    for link in Path("/sys/class/net").glob(f"mg{block}x*"):
        subprocess.run(["ip", "link", "del", link.name], check=False, capture_output=True)
    for found in Path("/run/netns").glob(f"mg-*-{block}-*"):
        subprocess.run(["ip", "netns", "del", found.name], check=False, capture_output=True)
