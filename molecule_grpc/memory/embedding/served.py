"""Models of an embedder process: the model of its settings, and at most one earlier model."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import aiohttp
import structlog

from molecule_grpc.memory.embedding.batches import Batches, LocalSource, Source
from molecule_grpc.memory.embedding.engines import load
from molecule_grpc.memory.embedding.models import LOCAL_MODELS, ModelRefused
from molecule_grpc.memory.embedding.openai import RemoteError, RemoteModel
from molecule_grpc.memory.embedding.port import EmbeddingModel
from molecule_grpc.settings.embedding import EmbeddingSettings

_log = structlog.get_logger("molecule_grpc.embedder")

_AGAIN_SECONDS: Final = 30.0  # Between two probes of a server that failed.
# An earlier model is unloaded after 120 s without a request: it takes as much memory again.
_IDLE_SECONDS: Final = 120.0
_LOOK_SECONDS: Final = 10.0


class Served:
    """A model. Until it is loaded `model` and `batches` are None, and `unavailable` says why."""

    def __init__(self, unavailable: str = "the model is being loaded") -> None:
        self.model: EmbeddingModel | None = None
        self.batches: Batches | None = None
        self.unavailable = unavailable

    async def run(self, settings: EmbeddingSettings) -> None:
        """Load the model, and work; without a model wait for a restart."""
        async with self._source(settings) as source:
            if source is None:
                await asyncio.Event().wait()
                return
            self.batches = Batches(source)
            _log.info("memories can be found by meaning", model=self.model and self.model.id)
            await self.batches.run()

    @contextlib.asynccontextmanager
    async def _source(self, settings: EmbeddingSettings) -> AsyncIterator[Source | None]:
        if settings.embedder == "openai":
            async with aiohttp.ClientSession() as session:
                yield await self._remote(RemoteModel(settings, session))
            return
        spec = LOCAL_MODELS[settings.embedder]
        # One thread: on two cores one computes as fast as two, and leaves the other to the workers.
        with ThreadPoolExecutor(1, "embedder") as pool:
            loop = asyncio.get_running_loop()
            try:
                engine = await loop.run_in_executor(pool, load, spec, settings.model_path)
                source = LocalSource(engine, pool)
                (warm,) = await source.split(["warm"], question=True)
                await source.embed(warm, question=True)
            except ModelRefused as error:
                self.unavailable = str(error)
                _log.warning("no embedder: memories are found by words alone", because=str(error))
                yield None
                return
            self.model = spec.model
            yield source

    async def _remote(self, remote: RemoteModel) -> RemoteModel:
        while self.model is None:
            try:
                self.model = await remote.probe()
            except RemoteError as error:
                self.unavailable = f"the embedder's server cannot be used: {error}"
                _log.warning("no embedder", because=str(error))
                await asyncio.sleep(_AGAIN_SECONDS)
        return remote


class Models:
    """The model of the settings, and one earlier model until 120 s pass without a request."""

    def __init__(self, settings: EmbeddingSettings, group: asyncio.TaskGroup) -> None:
        self._settings = settings
        self._group = group
        self._current = Served()
        self._earlier: tuple[str, Served, asyncio.Task[None]] | None = None
        self._asked_at = 0.0

    async def run(self) -> None:
        """Serve the model of the settings until cancelled."""
        self._group.create_task(self._give_up_idle())
        await self._current.run(self._settings)

    def of(self, model_id: str) -> Served:
        """A model by its id; starts to load an earlier model. Empty: the model of the settings."""
        current = self._current.model
        if not model_id or (current is not None and current.id == model_id):
            return self._current
        self._asked_at = asyncio.get_running_loop().time()
        if self._earlier is not None and self._earlier[0] == model_id:
            return self._earlier[1]
        names = [name for name, spec in LOCAL_MODELS.items() if spec.id == model_id]
        if not names:
            return Served("this machine has no such model")
        self._give_up()
        served = Served()
        settings = dataclasses.replace(self._settings, embedder=names[0], model_path=None)
        self._earlier = (model_id, served, self._group.create_task(served.run(settings)))
        return served

    def _give_up(self) -> None:
        if self._earlier is not None:
            self._earlier[2].cancel()
            self._earlier = None

    async def _give_up_idle(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if asyncio.get_running_loop().time() > self._asked_at + _IDLE_SECONDS:
                self._give_up()
