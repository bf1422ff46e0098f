"""The embedder process: all workers of a machine send their texts to its model.

Started by the fleet, with the paths of its socket and of the file that shows its life. A model in
each worker would take another 170 MB, and its products of matrices would block the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

import structlog

from molecule_grpc.memory.embedding.batches import Busy, Late, NotNow
from molecule_grpc.memory.embedding.frames import FrameError, frame, read_frame
from molecule_grpc.memory.embedding.served import Models
from molecule_grpc.server.process.logs import configure
from molecule_grpc.settings.embedding import EmbeddingSettings
from molecule_grpc.settings.settings import Settings

_log = structlog.get_logger("molecule_grpc.embedder")

_BEAT_SECONDS: Final = 0.25
# Behind everything that serves calls: a backlog may take every idle moment and no other.
_NICENESS: Final = 10


async def serve(settings: EmbeddingSettings, socket: Path, beat: Path) -> None:
    """Answer workers until cancelled."""
    async with contextlib.AsyncExitStack() as stack:
        group = await stack.enter_async_context(asyncio.TaskGroup())
        models = Models(settings, group)
        group.create_task(_beat(beat))
        serving = group.create_task(models.run())
        socket.unlink(missing_ok=True)  # noqa: ASYNC240  (microseconds)

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            # Cancelled at the end of the process alone.
            with contextlib.suppress(asyncio.CancelledError):
                await _Worker(reader, writer, models).answer()

        server = await asyncio.start_unix_server(connected, socket)
        stack.callback(server.close)
        await serving


class _Worker:
    """A connection of a worker: any number of requests at once, each with a number of its own."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, models: Models
    ) -> None:
        self._reader, self._writer, self._models = reader, writer, models

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
        served = self._models.of(header.get("model", ""))
        if served.batches is None or served.model is None:
            return {"error": served.unavailable}, b""
        model = list(served.model)
        try:
            found = await served.batches.add(
                header["texts"], question=header["question"], seconds=header["seconds"]
            )
        except (Busy, NotNow):
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
