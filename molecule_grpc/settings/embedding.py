"""What turns texts of memories into vectors, so that they can be found by meaning."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from molecule_grpc.settings.values import (
    COUNT,
    LIMIT,
    OPTIONAL_PATH,
    SECONDS,
    TEXT,
    choice,
    setting,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingSettings:
    """The embedder of memories. Times are in seconds.

    Args:
        embedder: `local` (English), `local-multilingual`, `local-light` (small and fast, 16
            languages, weak on technical questions), `openai` for any server with its API, or `none`
            to search by words alone.
        socket: Unix socket of an embedder process that runs already; empty for the one that `up`
            starts beside the workers.
        model_path: model file of `local`, instead of the installed package's: the same bytes.
        query_seconds: a search that has no vector of its query by then goes by words alone.
        exact_rows: up to so many rows a search compares its query with each; above, it walks an
            index.
        base_url: of `openai`, such as `https://api.openai.com/v1`.
        model: name of the model of `openai`.
        api_key: of `openai`.
        dimensions: asked of `openai`; 0 for the model's own.
        timeout: of one call to `openai`.
    """

    embedder: str = setting(
        "MEMORY_EMBEDDER",
        choice("local", "local-multilingual", "local-light", "openai", "none"),
        "local",
    )
    socket: Path | None = setting("MEMORY_EMBED_SOCKET", OPTIONAL_PATH, None)
    model_path: Path | None = setting("MEMORY_EMBED_MODEL_PATH", OPTIONAL_PATH, None)
    query_seconds: float = setting("MEMORY_EMBED_QUERY_SECONDS", SECONDS, 1.0)
    exact_rows: int = setting("MEMORY_EXACT_ROWS", COUNT, 20_000)
    base_url: str = setting("MEMORY_EMBED_BASE_URL", TEXT, "")
    model: str = setting("MEMORY_EMBED_MODEL", TEXT, "")
    api_key: str = setting("MEMORY_EMBED_API_KEY", TEXT, "", secret=True)
    dimensions: int = setting("MEMORY_EMBED_DIMENSIONS", LIMIT, 0)
    timeout: float = setting("MEMORY_EMBED_TIMEOUT", SECONDS, 5.0)
