"""Queues of texts in the embedder process, and the runs of its model over a few pieces at once."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple, Protocol

from molecule_grpc.memory.embedding.engines import Engine, Piece

_MOST_WAITING: Final = 4096
_SIZE_OF_A_TOKEN: Final = 4


class Busy(Exception):
    """Too many pieces of texts wait already; nothing was done."""


class NotNow(Exception):
    """The source of vectors does not work now; that is no fault of the texts."""


class Late(Exception):
    """The caller no longer waits."""


class Embedded(NamedTuple):
    """The vectors of one text as bytes of float32, and of how many windows they are."""

    windows: int
    floats: bytes


class Runs(NamedTuple):
    """How a source likes its work.

    Args:
        pieces: most pieces of a run.
        size: most characters of a run with several pieces.
        at_once: most runs at once.
    """

    pieces: int
    size: int
    at_once: int


# A model runs up to 8 pieces at once, which saves time on short pieces. A new question waits for
# the end of a run: 400 tokens, or 1,600 characters, take a tenth of a second.
LOCAL_RUNS: Final = Runs(8, 1600, 1)
# A server answers several calls as fast as one, and a call takes a while, however short.
REMOTE_RUNS: Final = Runs(32, 32_000, 4)


class Source(Protocol):
    """Where vectors come from."""

    runs: Runs

    async def split(self, texts: Sequence[str], *, question: bool) -> list[list[Piece]]:
        """The pieces of each text."""

    async def embed(self, pieces: Sequence[Piece], *, question: bool) -> list[bytes]:
        """The vector of each piece."""


class LocalSource:
    """A model on this machine, off the event loop. One thread: two would take the workers' core."""

    runs = LOCAL_RUNS

    def __init__(self, engine: Engine, pool: ThreadPoolExecutor) -> None:
        self._engine = engine
        self._pool = pool

    async def split(self, texts: Sequence[str], *, question: bool) -> list[list[Piece]]:
        def compute() -> list[list[Piece]]:
            return [self._engine.pieces(text, question=question) for text in texts]

        return await asyncio.get_running_loop().run_in_executor(self._pool, compute)

    async def embed(self, pieces: Sequence[Piece], *, question: bool) -> list[bytes]:
        def compute() -> list[bytes]:
            return [row.tobytes() for row in self._engine.vectors(pieces, question=question)]

        return await asyncio.get_running_loop().run_in_executor(self._pool, compute)


class _Waiting:
    """A piece of a text, until its vector is there."""

    __slots__ = ("done", "piece", "size", "until")

    def __init__(self, piece: Piece, until: float) -> None:
        self.piece = piece
        self.until = until
        self.size = len(piece) * (1 if isinstance(piece, str) else _SIZE_OF_A_TOKEN)
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()


class Batches:
    """Takes texts of all workers, questions before passages, and runs a few pieces at a time."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._questions: deque[_Waiting] = deque()
        self._passages: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()

    async def add(self, texts: Sequence[str], *, question: bool, seconds: float) -> list[Embedded]:
        """The vectors of the texts.

        Raises:
            Busy: 4,096 pieces wait already.
            Late: so many seconds went by before the turn of one came.
        """
        until = time.monotonic() + seconds
        texts_pieces = await self._source.split(texts, question=question)
        added = [[_Waiting(piece, until) for piece in pieces] for pieces in texts_pieces]
        flat = [each for pieces in added for each in pieces]
        waiting = self._questions if question else self._passages
        if len(waiting) + len(flat) > _MOST_WAITING:
            raise Busy
        waiting.extend(flat)
        self._arrived.set()
        # To the end of all, so that no failure goes unheard.
        outcomes = await asyncio.gather(*(each.done for each in flat), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return [
            Embedded(len(pieces), b"".join(each.done.result() for each in pieces))
            for pieces in added
        ]

    async def run(self) -> None:
        """Work until cancelled."""
        room = asyncio.Semaphore(self._source.runs.at_once)
        async with asyncio.TaskGroup() as group:
            while True:
                await self._arrived.wait()
                await room.acquire()
                question = bool(self._questions)
                batch = _next_run(self._questions or self._passages, self._source.runs)
                if not self._questions and not self._passages:
                    self._arrived.clear()
                run = group.create_task(self._run(batch, question=question))
                run.add_done_callback(lambda _: room.release())

    async def _run(self, batch: list[_Waiting], *, question: bool) -> None:
        if not batch:
            return
        try:
            vectors: list[Any] = await self._source.embed(
                [each.piece for each in batch], question=question
            )
        except NotNow as error:
            _fail(batch, error)
            return
        except Exception as error:  # noqa: BLE001  (of the model; the callers are told)
            if len(batch) == 1:
                _fail(batch, error)
            else:  # One that the model cannot read must not take the others along.
                for each in batch:
                    await self._run([each], question=question)
            return
        for each, vector in zip(batch, vectors, strict=True):
            if not each.done.done():
                each.done.set_result(vector)


def _next_run(waiting: deque[_Waiting], runs: Runs) -> list[_Waiting]:
    """The pieces that run next; those whose caller no longer waits are dropped."""
    batch: list[_Waiting] = []
    size, now = 0, time.monotonic()
    while waiting and len(batch) < runs.pieces:
        if batch and size + waiting[0].size > runs.size:
            break
        each = waiting.popleft()
        if each.until <= now:
            _fail([each], Late())
        elif not each.done.done():
            batch.append(each)
            size += each.size
    return batch


def _fail(batch: Sequence[_Waiting], error: Exception) -> None:
    for each in batch:
        if not each.done.done():
            each.done.set_exception(error)
