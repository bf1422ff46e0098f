"""The client process of `benchmarks.delegations` for Temporal: its worker and its callers."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import timedelta
from uuid import uuid4

import uvloop
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import PollerBehaviorSimpleMaximum, UnsandboxedWorkflowRunner, Worker

_TASK = "x" * 200
_READY_SECONDS = 30.0
_POLLERS = PollerBehaviorSimpleMaximum(maximum=16)


@activity.defn
async def echo(text: str) -> str:
    """Return the text unchanged."""
    return text


@workflow.defn
class Task:
    """A workflow of one activity."""

    @workflow.run
    async def run(self, text: str) -> str:
        """The activity's result."""
        return await workflow.execute_activity(
            echo, text, start_to_close_timeout=timedelta(seconds=60)
        )


async def _connected(target: str) -> Client:
    async with asyncio.timeout(_READY_SECONDS):
        while True:
            try:
                return await Client.connect(target)
            except RuntimeError:  # the server is still starting
                await asyncio.sleep(0.1)


async def main() -> None:
    """Read a plan (one line of JSON) from standard input and run it."""
    plan = json.loads(sys.stdin.readline())
    client = await _connected(plan["target"])
    took: list[float] = []
    queue = uuid4().hex  # a queue of its own: no tasks left by another round

    async def once() -> float:
        start = time.monotonic()
        await client.execute_workflow(Task.run, _TASK, id=uuid4().hex, task_queue=queue)
        return (time.monotonic() - start) * 1000

    async def again(end: float) -> None:
        while time.monotonic() < end:
            took_ms = await once()
            if time.monotonic() < end:
                took.append(took_ms)

    async with Worker(
        client,
        task_queue=queue,
        workflows=[Task],
        activities=[echo],
        workflow_runner=UnsandboxedWorkflowRunner(),  # the sandbox costs CPU and guards nothing
        max_concurrent_workflow_tasks=1000,
        max_concurrent_activities=1000,
        workflow_task_poller_behavior=_POLLERS,
        activity_task_poller_behavior=_POLLERS,
    ):
        await once()
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        before, end = time.process_time(), time.monotonic() + plan["seconds"]
        tasks = asyncio.gather(*(again(end) for _ in range(plan["at_once"])))
        await asyncio.sleep(plan["seconds"])
        print(json.dumps({"took": took, "cpu": time.process_time() - before}), flush=True)
        await tasks  # runs in flight are finished but not counted


if __name__ == "__main__":
    uvloop.run(main())
