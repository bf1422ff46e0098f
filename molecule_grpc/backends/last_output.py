"""The last lines that an agent printed, for the reason of its failure."""

from __future__ import annotations

import asyncio
from typing import Final

from molecule_grpc.backends.contract import (
    STATUS_SECONDS,
    BackendFailure,
    Capability,
    Refused,
    Resource,
    WorkloadMissing,
)
from molecule_grpc.backends.dispatch import Dispatch

_LONGEST: Final = 2048
_LINES: Final = 40


async def last_output(dispatch: Dispatch, backend: str, resource: Resource) -> str:
    """Up to 2 KiB of what a workload printed last; empty where that cannot be had. Never raises."""
    try:
        asked = dispatch.of(backend)
        if Capability.LOGS not in asked.capabilities:
            return ""
        async with asyncio.timeout(STATUS_SECONDS):
            chunks = [chunk.data async for chunk in asked.logs(resource, tail=_LINES)]
    except (BackendFailure, Refused, WorkloadMissing, TimeoutError):
        return ""
    return b"".join(chunks)[-_LONGEST:].decode(errors="replace").replace("\x00", "")


def with_output(sentence: str, output: str) -> str:
    """A sentence, and below it what the agent printed last, if anything."""
    if not output.strip():
        return sentence
    return f"{sentence}; the agent's last output:\n{output[-_LONGEST:]}"
