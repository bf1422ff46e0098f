"""An agent that listens at a URL for files, as the platform forwards them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from python_multipart import parse_form
from python_multipart.multipart import File

MIB = 1024 * 1024


@dataclass(slots=True)
class FileAgent:
    """Accepts uploads, and serves `files` by path."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    got: list[tuple[str, str, bytes]] = field(default_factory=list)
    bearers: list[str] = field(default_factory=list)
    status: int = 200
    raw: bytes = b""
    content_type: str = ""

    async def ingest(self, request: web.Request) -> web.Response:
        self.bearers.append(request.headers.get("authorization", ""))
        self.content_type = request.headers["content-type"]
        if self.status != 200:
            await request.read()
            return web.json_response({"error": "no thanks"}, status=self.status)
        told: list[dict[str, Any]] = []

        def take(file: File) -> None:
            file.file_object.seek(0)
            data = file.file_object.read()
            file.close()
            name, kind = (file.file_name or b"").decode(), file.content_type or ""
            self.got.append((name, kind, data))
            told.append(
                {"uri": f"workspace:/x/{name}", "name": name, "mimeType": kind, "size": len(data)}
            )

        body = io.BytesIO(await request.read())
        parse_form({"Content-Type": self.content_type.encode()}, body, None, take)
        return web.json_response({"files": told, "extra": [1, None]})

    async def read(self, request: web.Request) -> web.Response:
        self.bearers.append(request.headers.get("authorization", ""))
        path = request.query["path"]
        if path == "/workspace/redirect":
            raise web.HTTPFound("/internal/file/read?path=/workspace/a.txt")
        if path not in self.files:
            raise web.HTTPNotFound
        headers = {"content-disposition": 'inline; filename="x"'}
        return web.Response(body=self.files[path], content_type="text/html", headers=headers)


@contextlib.asynccontextmanager
async def file_agent() -> AsyncIterator[FileAgent]:
    """One that listens on this machine."""
    made = FileAgent()
    app = web.Application(client_max_size=200 * MIB)
    app.router.add_post("/base/internal/chat/uploads/ingest", made.ingest)
    app.router.add_get("/base/internal/file/read", made.read)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    made.url = f"http://{host}:{port}/base/"
    try:
        yield made
    finally:
        await runner.cleanup()
