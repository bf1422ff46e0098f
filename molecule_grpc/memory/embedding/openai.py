"""An embedder behind a URL: any server with OpenAI's API for embeddings."""

from __future__ import annotations

import array
import asyncio
import json
import math
import random
from collections.abc import Sequence
from typing import Any, Final

import aiohttp
import structlog

from molecule_grpc.memory.embedding.batches import REMOTE_RUNS, NotNow
from molecule_grpc.memory.embedding.engines import Piece
from molecule_grpc.memory.embedding.models import DEFAULT_WEIGHT
from molecule_grpc.memory.embedding.port import EmbeddingModel
from molecule_grpc.memory.embedding.windows import text_windows
from molecule_grpc.settings.embedding import EmbeddingSettings

_log = structlog.get_logger(__name__)

_TRIES: Final = 3
_REFUSED: Final = frozenset({400, 413, 422})
_MOST_BYTES: Final = 32 * 1024 * 1024
_BREAKER_FAILURES: Final = 3
_BREAKER_SECONDS: Final = 60.0
_LONGEST_PAUSE_SECONDS: Final = 5.0


class RemoteError(NotNow):
    """The server failed, or answered with what are no embeddings. Its words are never logged."""


class TextRefused(Exception):
    """The server cannot read a text, and never will."""


class RemoteModel:
    """Calls the server. Texts leave this machine: the start logs to which host."""

    runs = REMOTE_RUNS

    def __init__(self, settings: EmbeddingSettings, session: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._session = session
        self._url = settings.base_url.rstrip("/") + "/embeddings"
        self._dimensions = 0
        self._failures, self._closed_until = 0, 0.0

    async def probe(self) -> EmbeddingModel:
        """Embed a word, to learn how many dimensions the model has. Raises RemoteError."""
        host = self._session_host()
        if not host.startswith(("localhost", "127.", "[::1]")):
            _log.warning("texts of memories are sent to another host", host=host)
        (vector,) = await self._call(["memory"])
        self._dimensions = len(vector)
        name = f"openai/{self._settings.model}/{self._session_host()}/{self._dimensions}"
        return EmbeddingModel(name[:200], self._dimensions, DEFAULT_WEIGHT)

    async def split(self, texts: Sequence[str], *, question: bool) -> list[list[Piece]]:
        """The windows of each text; of a question the first alone."""
        return [text_windows(text)[: 1 if question else None] for text in texts]

    async def embed(self, pieces: Sequence[Piece], *, question: bool) -> list[bytes]:  # noqa: ARG002
        """The vector of each window. Raises RemoteError."""
        return [each.tobytes() for each in await self._guarded(list(pieces))]

    def _session_host(self) -> str:
        return self._url.split("//", 1)[-1].split("/", 1)[0].rsplit("@", 1)[-1]

    async def _guarded(self, texts: list[str]) -> list[array.array[float]]:
        """Three failures in a row close the way for 60 s; then a single call tries again."""
        now = asyncio.get_running_loop().time()
        if now < self._closed_until:
            raise RemoteError("the server failed three times in a row, asking again soon")
        try:
            found = await self._call(texts)
        except RemoteError:
            self._failures += 1
            if self._failures >= _BREAKER_FAILURES:
                self._closed_until = now + _BREAKER_SECONDS
            raise
        self._failures = 0
        return found

    async def _call(self, texts: list[str]) -> list[array.array[float]]:
        pause = 0.25
        for attempt in range(1, _TRIES + 1):
            try:
                return await self._once(texts)
            except _Again as error:
                if attempt == _TRIES:
                    raise RemoteError(str(error)) from error
                pause = error.after or pause * 2
                await asyncio.sleep(min(pause, _LONGEST_PAUSE_SECONDS) * random.uniform(0.8, 1.2))  # noqa: S311
        raise AssertionError

    async def _once(self, texts: list[str]) -> list[array.array[float]]:
        body: dict[str, Any] = {
            "model": self._settings.model,
            "input": texts,
            "encoding_format": "float",
        }
        if self._settings.dimensions:
            body["dimensions"] = self._settings.dimensions
        headers = {}
        if self._settings.api_key:
            headers["Authorization"] = f"Bearer {self._settings.api_key}"
        limit = aiohttp.ClientTimeout(total=self._settings.timeout)
        try:
            async with self._session.post(
                self._url, json=body, headers=headers, timeout=limit, allow_redirects=False
            ) as response:
                if response.status == 429 or response.status >= 500:
                    raise _Again(f"status {response.status}", _retry_after(response.headers))
                if response.status in _REFUSED and self._dimensions:
                    raise TextRefused(f"status {response.status}")
                if response.status != 200:
                    raise RemoteError(f"status {response.status}")
                raw = bytearray()
                async for part in response.content.iter_any():
                    raw += part
                    if len(raw) > _MOST_BYTES:
                        raise RemoteError("an answer of more than 32 MiB")
                answer = json.loads(raw)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _Again(type(error).__name__) from error
        except ValueError as error:
            raise RemoteError("an answer that is no JSON") from error
        return self._checked(answer, len(texts))

    def _checked(self, answer: Any, count: int) -> list[array.array[float]]:
        try:
            rows = sorted(answer["data"], key=lambda row: row["index"])
            vectors = [_unit(row["embedding"]) for row in rows]
            indexes = [row["index"] for row in rows]
        except (KeyError, TypeError, ValueError) as error:
            raise RemoteError("an answer without embeddings") from error
        lengths = {len(vector) for vector in vectors}
        wanted = {self._dimensions} if self._dimensions else lengths
        if indexes != list(range(count)) or len(lengths) != 1 or lengths != wanted:
            raise RemoteError("embeddings of another number or length than asked for")
        return vectors


class _Again(Exception):
    """Worth another try."""

    def __init__(self, why: str, after: float = 0.0) -> None:
        super().__init__(why)
        self.after = after


def _retry_after(headers: Any) -> float:
    try:
        return max(0.0, float(headers.get("Retry-After", "0")))
    except ValueError:
        return 0.0


def _unit(values: Any) -> array.array[float]:
    length = math.sqrt(sum(value * value for value in values))
    if not math.isfinite(length) or length == 0.0:
        raise ValueError("a vector without a direction")
    return array.array("f", [value / length for value in values])
