"""Pulling images anew, and restarting workspaces that run older images."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple
from uuid import UUID

import structlog

from molecule_grpc.backends import metrics
from molecule_grpc.backends.contract.failures import BackendFailure
from molecule_grpc.backends.images.pins import PULL_SECONDS, Pins
from molecule_grpc.backends.images.ports import ImageEngine, Restarts
from molecule_grpc.backends.images.store import pins as store
from molecule_grpc.backends.operations.queue import Wanted, enqueue
from molecule_grpc.backends.operations.rules import Kind
from molecule_grpc.db.pool import Pool
from molecule_grpc.db.sweep import in_batches

log = structlog.get_logger(__name__)

SOURCE: Final = "image"
_AT_ONCE: Final = 2
_BATCH: Final = 100
_NAMED: Final = 1000
_BEFORE_ALL: Final = UUID(int=0)


class Failed(NamedTuple):
    """An image that could not be pulled."""

    runtime: str
    reason: str
    error: str


class Refreshed(NamedTuple):
    """What a refresh has done.

    Args:
        recreated: the first 1,000 of the workspaces whose restart was asked for.
    """

    pulled: list[str]
    failed: list[Failed]
    recreated: list[UUID]
    recreated_count: int


class Refresh:
    """Pulls the images of runtimes.

    Args:
        announce: wakes the runners.
    """

    def __init__(
        self, pool: Pool, pins: Pins, rows: Restarts, announce: Callable[[], None]
    ) -> None:
        self._pool = pool
        self._pins = pins
        self._rows = rows
        self._announce = announce

    async def refresh(self, runtime: str, *, recreate: bool) -> Refreshed:
        """Pull the image of a runtime, or of all, and restart what runs others.

        Raises:
            Invalid: RUNTIME_UNKNOWN.
            Unavailable: NO_BACKEND.
        """
        engine = self._pins.engine
        if runtime:
            await self._pins.require(runtime)
        runtimes = [runtime] if runtime else await self._pins.runtimes()
        return await self.pull(engine, runtimes, recreate=recreate)

    async def pull(
        self, engine: ImageEngine, runtimes: Sequence[str], *, recreate: bool
    ) -> Refreshed:
        """Pull the images of these runtimes: of a pinned one the pinned image."""
        pins = await store.all_pins(self._pool)
        at_once = asyncio.Semaphore(_AT_ONCE)
        deadline = asyncio.get_running_loop().time() + PULL_SECONDS

        async def one(runtime: str) -> str | Failed:
            pinned = pins[runtime].digests[0] if runtime in pins else ""
            async with at_once:
                left = deadline - asyncio.get_running_loop().time()
                try:
                    digest = await engine.pull(runtime, pinned, deadline=max(left, 0.001))
                except BackendFailure as failed:
                    metrics.IMAGE_PULLS[metrics.FAILED].inc()
                    return Failed(runtime, failed.reason, failed.public)
            metrics.IMAGE_PULLS[metrics.SUCCEEDED].inc()
            return digest

        found = dict(zip(runtimes, await asyncio.gather(*map(one, runtimes)), strict=True))
        digests = {name: each for name, each in found.items() if isinstance(each, str)}
        failed = [each for each in found.values() if isinstance(each, Failed)]
        recreated: list[UUID] = []
        for name, digest in digests.items() if recreate else ():
            # An image without a digest is not to be told from the one that a workspace runs.
            if digest:
                recreated += await self._recreate(engine, name, digest)
        return Refreshed(list(digests), failed, recreated[:_NAMED], len(recreated))

    async def _recreate(self, engine: ImageEngine, runtime: str, digest: str) -> list[UUID]:
        last, restarted = _BEFORE_ALL, []

        async def step(limit: int) -> int:
            nonlocal last
            some = await store.elsewhere(
                self._pool, runtime, digest, engine.backend, after=last, limit=limit
            )
            if some:
                restarted.extend(await self._restart(some))
                last = some[-1]
            return len(some)

        await in_batches("workspaces with older images", step, batch=_BATCH)
        if restarted:
            log.info("workspaces get another image", runtime=runtime, count=len(restarted))
        return restarted

    async def _restart(self, workspace_ids: list[UUID]) -> list[UUID]:
        async with self._pool.acquire() as conn, conn.transaction():
            held = await self._rows.hold_all(conn, workspace_ids)
            moved = await self._rows.auto_restart(conn, [each.id for each in held])
            await enqueue(
                conn,
                [Wanted(each.id, each.organization_id, Kind.RESTART, SOURCE) for each in moved],
            )
        self._rows.announce()
        self._announce()
        return [each.id for each in moved]


class AutoRefresh:
    """Asks registries whether moving names mean other images, and refreshes those that do."""

    def __init__(self, pool: Pool, pins: Pins, refresh: Refresh) -> None:
        self._pool = pool
        self._pins = pins
        self._refresh = refresh

    async def look(self) -> None:
        """Refresh what has changed since the last look. The first look at an image only notes it.

        What could not be refreshed is still noted as it was, so that the next look tries again.
        """
        engine = self._pins.engine
        pinned = await store.all_pins(self._pool)
        known = [each for each in await self._pins.runtimes() if each not in pinned]
        for runtime in await store.used(self._pool, known, engine.backend):
            reference = engine.reference_of(runtime)
            if engine.moves(reference):
                await self._look_at(engine, runtime, reference)

    async def _look_at(self, engine: ImageEngine, runtime: str, reference: str) -> None:
        try:
            digest = await engine.registry_digest(runtime, deadline=PULL_SECONDS)
        except BackendFailure as failed:
            log.warning("a registry was not asked", image=reference, why=str(failed))
            return
        before = await store.seen(self._pool, runtime, reference)
        if before == digest:
            return
        if before is not None:
            done = await self._refresh.pull(engine, [runtime], recreate=True)
            if done.failed:
                return
        await store.see(self._pool, runtime, reference, digest)
