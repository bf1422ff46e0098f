"""A whole installation, as `molecule-grpc up` starts it, over the database of a benchmark."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from tests.running import RunningServer


@contextlib.asynccontextmanager
async def installation(
    dsn: str, directory: Path, **environment: str
) -> AsyncIterator[RunningServer]:
    """An installation with one worker and inboxes without bounds; stopped at the end."""
    server = RunningServer(
        dsn,
        directory,
        **{
            "LOG_LEVEL": "error",
            "MOLECULE_INBOX_MAX_ITEMS": "1000000000",
            "MOLECULE_INBOX_MAX_BYTES": "1000000000000",
            **environment,
        },
    )
    await asyncio.to_thread(server.start)
    try:
        yield server
    finally:
        await asyncio.to_thread(server.stop)
