"""Structured logs: one JSON line an event, on standard error."""

from __future__ import annotations

import logging
import sys
import threading
from types import TracebackType
from typing import Any

import structlog
from structlog.typing import Processor


def configure(level: str) -> None:
    """Log events of at least this level."""
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendered: list[Processor] = [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(),
    ]
    structlog.configure(
        processors=[*common, *rendered],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Libraries log through `logging`; a traceback of theirs must not tear a line, either.
    of_libraries = logging.StreamHandler(sys.stderr)
    of_libraries.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*common, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendered],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[of_libraries])
    # While Postgres is away the driver warns of each attempt to connect, with a traceback; the loss
    # and the return are in the log already.
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)
    logging.captureWarnings(True)
    _log_what_nobody_caught()


def _log_what_nobody_caught() -> None:
    """Write a line where Python would print a traceback: of a thread, a destructor, the program."""
    log = structlog.get_logger(__name__)

    def of_the_program(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
        else:
            log.critical("the program ends", exc_info=error)

    def of_a_thread(told: threading.ExceptHookArgs) -> None:
        if told.exc_value is not None:
            log.error("a thread ends", thread=_name(told.thread), exc_info=told.exc_value)

    def of_a_destructor(told: Any) -> None:
        log.error("an error was ignored", of=repr(told.object)[:200], exc_info=told.exc_value)

    sys.excepthook = of_the_program
    threading.excepthook = of_a_thread
    sys.unraisablehook = of_a_destructor


def _name(thread: threading.Thread | None) -> str:
    return "" if thread is None else thread.name
