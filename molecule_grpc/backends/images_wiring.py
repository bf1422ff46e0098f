"""Opens the RPCs of images, and the polling of registries, for one worker."""

from __future__ import annotations

from typing import Final

from molecule_grpc.backends.images.ports import Restarts
from molecule_grpc.backends.images.refresh import AutoRefresh, Refresh
from molecule_grpc.backends.images.service import ImagesService, handlers
from molecule_grpc.backends.sweeps.turns import take_turn
from molecule_grpc.backends.wiring import BackendsSlice
from molecule_grpc.core import Core, Slice
from molecule_grpc.server.tasks import BackgroundTask

AUTO_REFRESH: Final = "image-auto-refresh"
# Pulls may take five minutes for each runtime.
_TIMEOUT_SECONDS: Final = 3600.0


def open_images(core: Core, backends: BackendsSlice, rows: Restarts) -> Slice:
    """The part of the slice that serves images."""
    refresh = Refresh(core.pool, backends.pins, rows, backends.announce)
    return Slice(
        handlers=[handlers(ImagesService(backends.pins, refresh))],
        tasks=_tasks(core, backends, refresh),
    )


def _tasks(core: Core, backends: BackendsSlice, refresh: Refresh) -> list[BackgroundTask]:
    settings = core.settings.docker
    if not settings.image_auto_refresh or not backends.pins.has_engine:
        return []
    auto, period = AutoRefresh(core.pool, backends.pins, refresh), settings.image_refresh_interval

    async def look() -> None:
        if await take_turn(core.pool, AUTO_REFRESH, period):
            await auto.look()

    return [BackgroundTask(AUTO_REFRESH, period, look, timeout=_TIMEOUT_SECONDS)]
