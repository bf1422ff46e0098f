"""A party of the benchmark, seen from the timing process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

from benchmarks.neighbourhood.site import Site

_PREPARATION_SECONDS = 120.0


class Party:
    """A process that takes and writes lines."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, site: Site, module: str, *words: str) -> AsyncIterator[Party]:
        """Start a party in a new session and wait until ready."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            f"benchmarks.neighbourhood.{module}",
            *words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            limit=2**26,
            start_new_session=True,
        )
        party = cls(process)
        try:
            party.tell(site.written())
            async with asyncio.timeout(_PREPARATION_SECONDS):
                assert await party.heard() == "ready"
            yield party
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def tell(self, text: bytes) -> None:
        """Write a line."""
        assert self._process.stdin
        self._process.stdin.write(text)

    async def heard(self) -> Any:
        """The next line, as JSON."""
        assert self._process.stdout
        text = await self._process.stdout.readline()
        if not text:
            raise RuntimeError("a party of the benchmark has died")
        return json.loads(text)
