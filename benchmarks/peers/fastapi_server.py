"""The peer in Python: FastAPI and asyncpg, one statement for each heartbeat.

Served by uvicorn with uvloop and httptools. The statement, the token check and its cache are those
of the Go server beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import asyncpg
import uvicorn
from fastapi import FastAPI, Header, HTTPException
from pydantic import BaseModel, Field

_STATEMENT = (Path(__file__).parent / "go/cmd/server/one.sql").read_text()
_FIND_TOKEN = """
    SELECT t.workspace_id
    FROM workspace_auth_tokens t JOIN workspaces w ON w.id = t.workspace_id
    WHERE t.token_hash = $1 AND t.revoked_at IS NULL AND w.status <> 'removed'
      AND (t.expires_at IS NULL OR t.expires_at > now())
"""
_TOKEN_SECONDS = 30.0
_MOST_CENTS = 10**12


class Body(BaseModel):
    """The JSON of a heartbeat."""

    workspace_id: UUID
    error_rate: float | None = Field(None, ge=0, le=1)
    sample_error: str | None = None
    active_tasks: int | None = Field(None, ge=0, le=1_000_000)
    uptime_seconds: int | None = Field(None, ge=0)
    current_task: str | None = None
    monthly_spend: float | None = None
    runtime_state: str = ""


class Answer(BaseModel):
    """The JSON that answers a heartbeat."""

    status: str
    platform_inbound_secret: str
    workspace_status: str


class Tokens:
    """Finds whose token a call shows, by its SHA-256 alone."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool
        self._seen: dict[bytes, tuple[float, UUID | None]] = {}

    async def holder(self, header: str) -> UUID | None:
        """The workspace whose token the header carries; None for nobody's."""
        digest = hashlib.sha256(header.removeprefix("Bearer ").encode()).digest()
        until, known = self._seen.get(digest, (0.0, None))
        if time.monotonic() < until:
            return known
        found: UUID | None = await self._pool.fetchval(_FIND_TOKEN, digest)
        self._seen[digest] = (time.monotonic() + _TOKEN_SECONDS, found)
        return found


def application(dsn: str, connections: int) -> FastAPI:
    """The application over a pool of connections."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        pool = await asyncpg.create_pool(dsn, min_size=connections, max_size=connections)
        app.state.pool, app.state.tokens = pool, Tokens(pool)
        yield
        await pool.close()

    app = FastAPI(lifespan=lifespan)

    @app.post("/registry/heartbeat")
    async def heartbeat(body: Body, authorization: str = Header("")) -> Answer:
        if await app.state.tokens.holder(authorization) != body.workspace_id:
            raise HTTPException(401)
        row = await app.state.pool.fetchrow(_STATEMENT, *_values(body))
        if row is None:
            raise HTTPException(404)
        return Answer(status="ok", workspace_status=row[0], platform_inbound_secret=row[1])

    return app


def _values(body: Body) -> tuple[object, ...]:
    spend = int(min(body.monthly_spend, _MOST_CENTS)) if body.monthly_spend else None
    return (
        body.workspace_id,
        body.error_rate,
        body.sample_error,
        body.active_tasks,
        body.uptime_seconds,
        body.current_task,
        spend,
        body.runtime_state == "wedged",
    )


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pool", type=int, default=16)
    arguments = parser.parse_args()
    uvicorn.run(
        application(arguments.dsn, arguments.pool),
        port=arguments.port,
        loop="uvloop",
        http="httptools",
        log_level="error",
        access_log=False,
    )


if __name__ == "__main__":
    main()
