"""Keeps the embedded Postgres running: starts it again whenever it ends."""

from __future__ import annotations

import threading
import time
from typing import Self

import structlog

from molecule_grpc.db.embedded.server import EmbeddedPostgres
from molecule_grpc.kernel.restarts import RestartPauses

_log = structlog.get_logger(__name__)

_LOOK_SECONDS = 0.1


class KeptPostgres:
    """An embedded Postgres that runs for as long as the block lasts.

    A thread of its own looks ten times a second whether Postgres is there. One that has ended is
    started again at once, and after ever longer pauses, at most 10 s, when it keeps ending.
    Clients see their connections break and connect again: the address stays.
    """

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="postgres-keeper", daemon=True)

    def __enter__(self) -> Self:
        """Start Postgres. A first start that fails is the caller's to tell.

        Raises:
            EmbeddedPostgresError: the first start failed.
        """
        self._server.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        self._server.stop()

    @property
    def dsn(self) -> str:
        """Where the owner of the schema connects."""
        return self._server.dsn

    @property
    def server_dsn(self) -> str:
        """Where workers connect."""
        return self._server.server_dsn

    def _keep(self) -> None:
        pauses = RestartPauses()
        started = time.monotonic()
        while not self._stopping.wait(_LOOK_SECONDS):
            if self._server.pid is not None:
                continue
            pause = pauses.after(time.monotonic() - started)
            self._report(pause)
            if self._stopping.wait(pause):
                return
            started = time.monotonic()
            self._restart()

    def _report(self, pause: float) -> None:
        try:
            because, said = self._server.why_ended(), self._server.last_words()
        except OSError as error:  # the data directory itself may be away
            because, said = str(error), []
        _log.error(
            "Postgres is down, starting it again", because=because, last_lines=said, pause=pause
        )

    def _restart(self) -> None:
        started = time.monotonic()
        try:
            self._server.restart(self._stopping)
        except Exception as error:  # noqa: BLE001  (whatever it is, the next attempt may succeed)
            if not self._stopping.is_set():
                _log.error("Postgres did not start", because=str(error))
            return
        _log.info("Postgres is up again", seconds=round(time.monotonic() - started, 1))
