"""Resident memory of an installation's workers and of its edge."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import psutil

_EVERY_SECONDS = 0.1
_MIB = 1024 * 1024


@dataclass(slots=True)
class Figures:
    """MiB of a group of processes: at first, at most, at last. 0 before the first look."""

    before: float = 0.0
    peak: float = 0.0
    after: float = 0.0

    def cell(self) -> str:
        """All three, as a cell of a table."""
        return f"{self.before:.0f} {self.peak:.0f} {self.after:.0f}"

    def see(self, mib: float) -> None:
        """Take note of one look."""
        self.before = self.before or mib
        self.peak = max(self.peak, mib)
        self.after = mib


@dataclass(slots=True)
class Memory:
    """What the workers and the edge held during all rounds of one attack."""

    workers: Figures = field(default_factory=Figures)
    edge: Figures = field(default_factory=Figures)

    @property
    def growth(self) -> float:
        """MiB by which the workers or the edge grew at most."""
        return max(each.peak - each.before for each in (self.workers, self.edge))

    def cells(self) -> tuple[str, str]:
        """Before, peak and after of the workers, and of the edge."""
        return self.workers.cell(), self.edge.cell()

    @contextlib.asynccontextmanager
    async def watched(self, pid: int) -> AsyncIterator[None]:
        """Look ten times a second at the children of an installation's first process."""
        watching = asyncio.create_task(self._watch(pid))
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def _watch(self, pid: int) -> None:
        while True:
            workers = edge = 0.0
            for child in psutil.Process(pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    held = child.memory_info().rss / _MIB
                    if child.name() == "envoy":
                        edge += held
                    elif "molecule_grpc.server.process.worker" in child.cmdline():
                        workers += held
            self.workers.see(workers)
            self.edge.see(edge)
            await asyncio.sleep(_EVERY_SECONDS)
