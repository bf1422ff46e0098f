"""The last lines that an agent printed, for the reason of its failure."""

from __future__ import annotations

import asyncio

from molecule_grpc.backends.contract.backend import STATUS_SECONDS
from molecule_grpc.backends.contract.failures import BackendFailure, Refused, WorkloadMissing
from molecule_grpc.backends.contract.names import Capability
from molecule_grpc.backends.contract.workloads import Resource
from molecule_grpc.backends.dispatch import Dispatch
from molecule_grpc.backends.tails import TAIL_BYTES, TAIL_LINES, tail_of


async def last_output(dispatch: Dispatch, backend: str, resource: Resource) -> str:
    """Up to 2 KiB of what a workload printed last; empty where that cannot be had. Never raises."""
    try:
        asked = dispatch.of(backend)
        if Capability.LOGS not in asked.capabilities:
            return ""
        async with asyncio.timeout(STATUS_SECONDS):
            return await tail_of(asked.logs(resource, tail=TAIL_LINES))
    except (BackendFailure, Refused, WorkloadMissing, TimeoutError):
        return ""


def with_output(sentence: str, output: str) -> str:
    """A sentence, and below it what the agent printed last, if anything."""
    if not output.strip():
        return sentence
    return f"{sentence}; the agent's last output:\n{output[-TAIL_BYTES:]}"
