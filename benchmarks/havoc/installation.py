"""An installation as `molecule-grpc up` runs it, and its processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from molecule_grpc.db.embedded.processes import processes_in, recorded_pid, send
from molecule_grpc.db.embedded.server import EmbeddedPostgres
from tests.running import RunningServer
from tests.seaweed import Seaweed, new_prefix

_STILL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Installation:
    """A server with its embedded Postgres, a store of objects, and a name server that is silent.

    Args:
        store: the object store; None where files are kept in Postgres.
    """

    server: RunningServer
    store: Seaweed | None

    @property
    def dsn(self) -> str:
        """For what no call can bring about."""
        return EmbeddedPostgres(self.server.data_dir).dsn

    def postgres(self) -> list[psutil.Process]:
        """All processes of Postgres."""
        return processes_in(self._cluster)

    def postmaster(self) -> list[psutil.Process]:
        """The process that starts the others."""
        pid = recorded_pid(self._cluster / "postmaster.pid")
        return [process for process in self.postgres() if process.pid == pid]

    def worker(self) -> list[psutil.Process]:
        """The worker that was ready last."""
        lines = self.server.log.read_text().splitlines()
        ready = [line for line in lines if '"worker ready"' in line]
        name: str = json.loads(ready[-1])["worker"]
        return [psutil.Process(int(name.split("-")[-2]))]

    def edge(self) -> list[psutil.Process]:
        """Envoy."""
        children = psutil.Process(self.server.pid).children()
        return [child for child in children if child.name() == "envoy"]

    async def spare_loaded(self) -> None:
        """Wait until the spare process has nothing left to load: its CPU time stands still."""
        spent: list[float] = [0.0]
        while len(spent) < 2 or not 0 < spent[-1] == spent[-2]:
            await asyncio.sleep(_STILL_SECONDS)
            children = psutil.Process(self.server.pid).children()
            taken = self.worker()
            with contextlib.suppress(psutil.Error):
                spent.append(
                    sum(
                        child.cpu_times().user
                        for child in children
                        if self._is_worker(child) and child not in taken
                    )
                )

    def _is_worker(self, child: psutil.Process) -> bool:
        """Whether a process runs handlers, or waits to do so."""
        if self.server.environment["MOLECULE_HOST_MODE"] == "envoy":
            return bool(child.name() == "envoy")
        return "--standby" in child.cmdline()

    @property
    def _cluster(self) -> Path:
        return self.server.data_dir / "postgres"


@dataclass(frozen=True, slots=True)
class Onset:
    """A fault that was brought about.

    Args:
        clock: the moment from which service is timed.
        remark: what else there is to say.
    """

    clock: float
    remark: str

    @classmethod
    def now(cls, remark: str = "") -> Onset:
        """The clock starts at this moment."""
        return cls(time.monotonic(), remark)


@contextlib.contextmanager
def installed(directory: Path, *, s3: bool, **environment: str) -> Iterator[Installation]:
    """Run an installation with one worker and its spare while the block lasts.

    Args:
        directory: short, for the sockets in it.
        s3: whether files are kept in an object store.
    """
    with contextlib.ExitStack() as stack:
        store = Seaweed(directory / "s3") if s3 else None
        if store:
            store.start()
            stack.callback(store.kill)
            environment |= store.environment(new_prefix())
        silent = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        silent.bind(("127.0.0.1", 0))
        server = RunningServer(
            "",
            directory / "data",
            MOLECULE_SPARE_WORKER="1",
            MOLECULE_NAME_SERVERS=f"127.0.0.1:{silent.getsockname()[1]}",
            DELEGATION_SWEEPER_INTERVAL_S="1",
            **{"MOLECULE_HOST_MODE": "grpc"} | environment,
        )
        server.log = directory / "server.log"
        found = Installation(server, store)
        try:
            server.start()
            yield found
        finally:
            server.stop()
            send(signal.SIGKILL, found.postgres())
