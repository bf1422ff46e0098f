"""Times the steps of a coroutine on the event loop, for the account of whoever pays."""

from __future__ import annotations

import time
from collections.abc import Coroutine, Generator
from contextvars import ContextVar
from types import coroutine
from typing import Any, TypeVar, cast

from molecule_grpc.kernel.processor import Meter

T = TypeVar("T")

# Set by the pipeline for the task of a call, and inherited by tasks that the call starts: those run
# their work in `charged`.
call_meter: ContextVar[Meter | None] = ContextVar("call_meter", default=None)


@coroutine
def metered(work: Coroutine[Any, Any, T], meter: Meter) -> Generator[Any, Any, T]:
    """Await `work`, and add the time of each of its steps to the meter's account.

    A step costs 0.2 us more. Tasks that the work starts are not timed.
    """
    clock = time.perf_counter
    step, given = work.send, None
    while True:
        began = clock()
        try:
            awaited = step(given)
        except StopIteration as end:
            return cast("T", end.value)
        finally:
            meter.account.used += clock() - began
        try:
            step, given = work.send, (yield awaited)
        except GeneratorExit:
            work.close()
            raise
        except BaseException as error:  # noqa: BLE001  (thrown into the work, which decides)
            step, given = work.throw, error


async def charged(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` in a task of its own; the call that started the task pays for its steps."""
    meter = call_meter.get()
    return await (work if meter is None else metered(work, meter))
