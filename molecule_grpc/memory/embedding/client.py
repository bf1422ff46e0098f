"""A worker's side of the embedder process: one connection, deadlines, and a breaker."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import structlog
from prometheus_client import Counter, Histogram

from molecule_grpc.kernel.holding import require_no_connection
from molecule_grpc.memory.embedding.frames import FrameError, frame, read_frame, vectors_of
from molecule_grpc.memory.embedding.port import EmbeddingModel, Vector

_log = structlog.get_logger(__name__)

_FIRST_PAUSE_SECONDS: Final = 0.1
_LAST_PAUSE_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 1.0  # Between two questions to a process that has no model yet.
# So many answers in a row that came too late, and searches go by words at once for so long.
_BREAKER_FAILURES: Final = 3
_BREAKER_SECONDS: Final = 5.0

_SECONDS = Histogram(
    "molecule_memory_embed_seconds",
    "How long texts took to become vectors, as workers saw it.",
    ["kind"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 30.0),
)
_FAILURES = Counter(
    "molecule_memory_embed_failures_total",
    "Calls for vectors that got none: late, refused, or no process.",
    ["kind"],
)


class _RefusedError(Exception):
    """The model failed on a text; it would fail again."""


class SocketEmbedder:
    """The embedder of a worker.

    Args:
        socket: where the process listens.
        query_seconds: what a search waits for the vector of its query.
    """

    active = True

    def __init__(self, socket: Path, query_seconds: float) -> None:
        self._socket = socket
        self._query_seconds = query_seconds
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[tuple[dict[str, Any], bytes]]] = {}
        self._numbers = itertools.count()
        self._model: EmbeddingModel | None = None
        self._failures, self._closed_until = 0, 0.0

    @property
    def model(self) -> EmbeddingModel | None:
        """The model; None before the process has first said which it has."""
        return self._model

    async def run(self) -> None:
        """Keep the connection. Runs until cancelled."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._socket)
            except OSError:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LAST_PAUSE_SECONDS)
                continue
            pause = _FIRST_PAUSE_SECONDS
            self._writer = writer
            learning = asyncio.create_task(self._learn())
            try:
                await self._read(reader)
            finally:
                learning.cancel()
                self._lose(writer)
            await asyncio.sleep(_FIRST_PAUSE_SECONDS)

    async def query(self, text: str, earlier: EmbeddingModel | None = None) -> Vector | None:
        """The vector of a question; None without one in time.

        A question to an earlier model, which the process may have to load first, is asked once and
        counts for nothing.
        """
        loop = asyncio.get_running_loop()
        if earlier is not None:
            with contextlib.suppress(_RefusedError):
                found = await self._call([text], "query", self._query_seconds, earlier)
                return found[0][0] if found else None
            return None
        if loop.time() < self._closed_until:
            return None
        try:
            found = await self._call([text], "query", self._query_seconds)
        except _RefusedError:
            return None
        if not found:
            self._failures += 1
            if self._failures >= _BREAKER_FAILURES:
                # One question a while: the next failure closes the way again.
                self._closed_until = loop.time() + _BREAKER_SECONDS
            return None
        self._failures = 0
        return found[0][0]

    async def passages(
        self, texts: Sequence[str], *, seconds: float
    ) -> list[list[Vector] | None] | None:
        """The vectors of each text, one for each of its windows; None without them in time."""
        try:
            found = await self._call(texts, "passage", seconds)
        except _RefusedError:
            if len(texts) == 1:
                return [None]
            singly = [await self.passages([text], seconds=seconds) for text in texts]
            return None if None in singly else [each[0] for each in singly if each]
        return None if found is None else list(found)

    async def _call(
        self,
        texts: Sequence[str],
        kind: str,
        seconds: float,
        earlier: EmbeddingModel | None = None,
    ) -> list[list[Vector]] | None:
        """Raises _RefusedError where the model cannot read a text."""
        require_no_connection("the embedder")
        began = asyncio.get_running_loop().time()
        answer = await self._ask(texts, question=kind == "query", seconds=seconds, earlier=earlier)
        model = earlier or self._model
        if answer is None or "error" in answer[0] or model is None:
            _FAILURES.labels(kind).inc()
            if answer is not None and answer[0].get("error") == "refused":
                raise _RefusedError
            return None
        _SECONDS.labels(kind).observe(asyncio.get_running_loop().time() - began)
        header, body = answer
        try:
            vectors = iter(vectors_of(body, model.dimensions))
            return [[next(vectors) for _ in range(count)] for count in header["counts"]]
        except (FrameError, RuntimeError, StopIteration):
            _FAILURES.labels(kind).inc()
            return None

    async def _ask(
        self,
        texts: Sequence[str],
        *,
        question: bool,
        seconds: float,
        earlier: EmbeddingModel | None = None,
    ) -> tuple[dict[str, Any], bytes] | None:
        writer = self._writer
        if writer is None:
            return None
        number = next(self._numbers)
        answer = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        request = {
            "id": number,
            "texts": list(texts),
            "question": question,
            "seconds": seconds,
            "model": earlier.id if earlier else "",
        }
        try:
            async with asyncio.timeout(seconds):
                writer.write(frame(request))
                await writer.drain()
                got: tuple[dict[str, Any], bytes] = await answer
        except (TimeoutError, ConnectionError):
            return None
        finally:
            self._waiting.pop(number, None)
        if (told := got[0].get("model")) and earlier is None:
            self._model = EmbeddingModel(*told)
        return got

    async def _learn(self) -> None:
        """Ask until the process says which model it has."""
        said = ""
        while True:
            got = await self._ask([], question=True, seconds=_LOOK_SECONDS)
            if got is not None and "error" not in got[0]:
                return
            why = "" if got is None else str(got[0]["error"])
            if why and why != said:
                said = why
                _log.info("no embedder yet", because=why)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, FrameError, ConnectionError):
            while True:
                header, body = await read_frame(reader)
                waiting = self._waiting.get(header.get("id", -1))
                if waiting is not None and not waiting.done():
                    waiting.set_result((header, body))

    def _lose(self, writer: asyncio.StreamWriter) -> None:
        self._writer = None
        writer.close()
        for each in self._waiting.values():
            if not each.done():
                each.set_exception(ConnectionError("the embedder has gone"))
