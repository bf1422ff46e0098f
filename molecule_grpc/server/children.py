"""Child processes that never outlive this one, and how they are stopped."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Run in the child before exec: the kernel kills the child when its parent ends for any reason.

    Linux only. Elsewhere a killed parent leaves its children to the operator.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


async def spawn(
    command: Sequence[str | Path], *, env: Mapping[str, str], piped: bool = False
) -> asyncio.subprocess.Process:
    """Start a child in a session of its own: Ctrl-C reaches the parent, which stops the child.

    Args:
        piped: whether the child's standard input is a pipe from here; else it is empty.
    """
    return await asyncio.create_subprocess_exec(
        *[str(word) for word in command],
        env=dict(env),
        stdin=asyncio.subprocess.PIPE if piped else asyncio.subprocess.DEVNULL,
        preexec_fn=die_with_parent,
        start_new_session=True,
    )


async def stop(process: asyncio.subprocess.Process, *, wait_limit: float) -> None:
    """Send SIGTERM to a child; after `wait_limit` seconds, SIGKILL."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(wait_limit):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
