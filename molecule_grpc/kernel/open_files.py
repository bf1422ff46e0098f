"""How many files and sockets this process may have open."""

from __future__ import annotations

import contextlib
import resource
import sys


def limit() -> int:
    """The limit in force."""
    return _count(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def highest_limit() -> int:
    """The limit to which this process may raise its own."""
    return _count(resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def raise_limit() -> None:
    """Raise the limit to the highest, for this process and those that it will start.

    A call to an agent holds a socket in a worker, and each connection of a client one in the edge:
    the usual limit of 1,024 would end both with errors.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS reports RLIM_INFINITY as the hard limit, and refuses more than kern.maxfilesperproc.
    with contextlib.suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _count(value: int) -> int:
    return sys.maxsize if value == resource.RLIM_INFINITY else value
