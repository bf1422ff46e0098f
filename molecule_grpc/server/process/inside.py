"""N equal processes on one port, each an Envoy with a worker in it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

from molecule_grpc.server.edge.config import EdgeConfig
from molecule_grpc.server.edge.filters import hosted_worker
from molecule_grpc.server.process.child import keep
from molecule_grpc.server.process.host_mode import HostMode
from molecule_grpc.server.process.hosted_child import HostedChild
from molecule_grpc.settings.settings import Settings

# What Envoy loads.
_APPLICATION = "molecule_grpc.server.process.hosted:app"


class InsideEnvoy:
    """A fleet whose processes share the port, and nothing else."""

    def __init__(
        self,
        settings: Settings,
        directory: Path,
        environment: Mapping[str, str],
        *,
        config: EdgeConfig,
        mode: HostMode,
        run: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        assert mode.module is not None
        config = dataclasses.replace(
            config,
            hosted=hosted_worker(mode.module, _APPLICATION),
            concurrency=1,
            memory_bytes=config.memory_bytes // settings.process.workers,
        )
        self._run = run
        self._children = [
            HostedChild(index, directory, config, mode, environment)
            for index in range(settings.process.workers)
        ]

    async def start(self) -> None:
        """Start all, keep them running, and return when clients are served."""
        for child in self._children:
            await child.start()
        await asyncio.gather(*(child.wait_ready() for child in self._children))
        for index, child in enumerate(self._children):
            self._run(keep(f"worker {index}", child))

    async def stop(self, wait_limit: float) -> None:
        """Let calls in flight finish, for at most `wait_limit` seconds, then end all."""
        await asyncio.gather(*(child.stop(wait_limit) for child in self._children))
