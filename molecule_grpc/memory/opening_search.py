"""Opens search, hints of similar memories and the embedder's client, for one worker."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from molecule_grpc.core import Core
from molecule_grpc.memory.embedding.backlog import Backlog
from molecule_grpc.memory.embedding.client import SocketEmbedder
from molecule_grpc.memory.embedding.port import Embedder, NoEmbedder
from molecule_grpc.memory.embedding.vectors import Vectors
from molecule_grpc.memory.search.searching import Recalled, Search
from molecule_grpc.memory.similar import SimilarMemories
from molecule_grpc.server.tasks import BackgroundTask

_BACKLOG_SECONDS: Final = 5.0
# One step reads up to 3,200 texts.
_BACKLOG_TIMEOUT_SECONDS: Final = 3600.0


class Reading:
    """What writers know of the embedder."""

    def __init__(self, embedder: Embedder, nudge: Callable[[], None]) -> None:
        self._embedder = embedder
        self._nudge = nudge

    @property
    def active(self) -> bool:
        """Whether new texts are to be read."""
        return self._embedder.active

    def notice(self) -> None:
        """There are new texts."""
        self._nudge()


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchParts:
    """What the rest of the slice takes from here.

    Args:
        reader: for those who write texts.
        tasks: turn texts into vectors.
        loops: keep the connection to the embedder process.
    """

    search: Search
    similar: SimilarMemories
    embedder: Embedder
    vectors: Vectors
    reader: Reading
    tasks: Sequence[BackgroundTask]
    loops: Mapping[str, Callable[[], Coroutine[None, None, None]]]


@contextlib.asynccontextmanager
async def open_search(
    core: Core, *, recalled: Recalled | None = None, embedder: Embedder | None = None
) -> AsyncIterator[SearchParts]:
    """Everything, not running yet.

    Args:
        recalled: told which memories of an organisation a search has shown.
        embedder: in place of the one that the settings name.
    """
    settings = core.settings.embedding
    loops: dict[str, Callable[[], Coroutine[None, None, None]]] = {}
    if embedder is None:
        embedder = NoEmbedder()
        if settings.embedder != "none" and settings.socket is not None:
            embedder = client = SocketEmbedder(settings.socket, settings.query_seconds)
            loops["memory-embedder"] = client.run
    vectors = Vectors(core.pool)
    backlog = Backlog(core.pool, embedder, vectors)
    tasks = []

    def nothing() -> None:
        """Nobody reads."""

    nudge = nothing
    if embedder.active:
        task = BackgroundTask(
            "memory-embedding", _BACKLOG_SECONDS, backlog.step, timeout=_BACKLOG_TIMEOUT_SECONDS
        )
        tasks.append(task)
        nudge = task.nudge
    yield SearchParts(
        search=Search(
            core.pool,
            core.page_tokens,
            embedder,
            vectors,
            exact_rows=settings.exact_rows,
            recalled=recalled,
        ),
        similar=SimilarMemories(core.pool, embedder, vectors),
        embedder=embedder,
        vectors=vectors,
        reader=Reading(embedder, nudge),
        tasks=tasks,
        loops=loops,
    )
