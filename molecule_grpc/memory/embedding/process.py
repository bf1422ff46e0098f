"""The embedder process: one on a machine, with the model that all its workers share.

Started by the fleet, with the paths of its socket and of the file that shows its life. In a worker
a model would take its 170 MB once more, and its products of matrices would hold up the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import aiohttp
import structlog

from molecule_grpc.memory.embedding.batches import Batches, Busy, Late, LocalSource, Source
from molecule_grpc.memory.embedding.engines import load
from molecule_grpc.memory.embedding.frames import FrameError, frame, read_frame
from molecule_grpc.memory.embedding.models import LOCAL_MODELS, ModelRefused
from molecule_grpc.memory.embedding.openai import RemoteError, RemoteModel
from molecule_grpc.memory.embedding.port import EmbeddingModel
from molecule_grpc.server.process.logs import configure
from molecule_grpc.settings.embedding import EmbeddingSettings
from molecule_grpc.settings.settings import Settings

_log = structlog.get_logger("molecule_grpc.embedder")

_BEAT_SECONDS: Final = 0.25
_AGAIN_SECONDS: Final = 30.0  # Between two probes of a server that failed.
# Behind everything that serves calls: a backlog may take every idle moment and no other.
_NICENESS: Final = 10


class _Loaded:
    """The model once there is one, and why there is none until then."""

    def __init__(self) -> None:
        self.model: EmbeddingModel | None = None
        self.batches: Batches | None = None
        self.unavailable = "the model is being loaded"


async def serve(settings: EmbeddingSettings, socket: Path, beat: Path) -> None:
    """Answer workers until cancelled."""
    loaded = _Loaded()
    async with contextlib.AsyncExitStack() as stack:
        group = await stack.enter_async_context(asyncio.TaskGroup())
        group.create_task(_beat(beat))
        loading = group.create_task(_load(settings, loaded))
        socket.unlink(missing_ok=True)  # noqa: ASYNC240  (microseconds)

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # Cancelled at the end of the process alone.
            with contextlib.suppress(asyncio.CancelledError):
                await _Worker(reader, writer, loaded).answer()

        server = await asyncio.start_unix_server(connected, socket)
        stack.callback(server.close)
        await loading


async def _load(settings: EmbeddingSettings, loaded: _Loaded) -> None:
    """Load the model, and work; without a model wait for a restart."""
    async with _source(settings, loaded) as source:
        if source is None:
            await asyncio.Event().wait()
            return
        loaded.batches = Batches(source)
        _log.info("memories can be found by meaning", model=loaded.model and loaded.model.id)
        await loaded.batches.run()


@contextlib.asynccontextmanager
async def _source(settings: EmbeddingSettings, loaded: _Loaded) -> AsyncIterator[Source | None]:
    if settings.embedder == "openai":
        async with aiohttp.ClientSession() as session:
            remote = RemoteModel(settings, session)
            while loaded.model is None:
                try:
                    loaded.model = await remote.probe()
                except RemoteError as error:
                    loaded.unavailable = f"the embedder's server cannot be used: {error}"
                    _log.warning("no embedder", because=str(error))
                    await asyncio.sleep(_AGAIN_SECONDS)
            yield remote
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
            loaded.unavailable = str(error)
            _log.warning("no embedder: memories are found by words alone", because=str(error))
            yield None
            return
        loaded.model = EmbeddingModel(spec.id, spec.dimensions, spec.weight)
        yield source


class _Worker:
    """A connection of a worker: any number of requests at once, each with a number of its own."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, loaded: _Loaded
    ) -> None:
        self._reader, self._writer, self._loaded = reader, writer, loaded

    async def answer(self) -> None:
        """Until the worker hangs up."""
        try:
            async with asyncio.TaskGroup() as group:
                with contextlib.suppress(asyncio.IncompleteReadError, FrameError, ConnectionError):
                    while True:
                        header, _ = await read_frame(self._reader)
                        group.create_task(self._one(header))
        finally:
            self._writer.close()

    async def _one(self, header: dict[str, Any]) -> None:
        answer, body = await self._answer(header)
        with contextlib.suppress(ConnectionError):
            self._writer.write(frame({"id": header.get("id"), **answer}, body))
            await self._writer.drain()

    async def _answer(self, header: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        loaded = self._loaded
        if loaded.batches is None or loaded.model is None:
            return {"error": loaded.unavailable}, b""
        model = list(loaded.model)
        try:
            found = await loaded.batches.add(
                header["texts"], question=header["question"], seconds=header["seconds"]
            )
        except Busy:
            return {"error": "busy", "model": model}, b""
        except Late:
            return {"error": "late", "model": model}, b""
        except Exception as error:  # noqa: BLE001  (of the model; the worker is told)
            _log.warning("texts could not be embedded", because=type(error).__name__)
            return {"error": "refused", "model": model}, b""
        counts = [each.windows for each in found]
        return {"model": model, "counts": counts}, b"".join(each.floats for each in found)


async def _beat(file: Path) -> None:
    while True:
        file.touch()  # noqa: ASYNC240  (microseconds)
        await asyncio.sleep(_BEAT_SECONDS)


def main() -> None:
    """Run until SIGTERM."""
    socket, beat = (Path(word) for word in sys.argv[1:3])
    settings = Settings.from_env()
    configure(settings.process.log_level)
    os.nice(_NICENESS)

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await serve(settings.embedding, socket, beat)

    asyncio.run(run())


if __name__ == "__main__":
    main()
