"""Files of agents that can be called: passed on to them, and read from them, as streams."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import NamedTuple

import aiohttp
import structlog
from google.api import httpbody_pb2

from molecule_grpc import egress
from molecule_grpc.auth.tokens import mint
from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.kernel.errors import Invalid, MoleculeError, NotFound, Unavailable
from molecule_grpc.server.call import Call
from molecule_grpc.settings.settings import Settings
from molecule_grpc.upload.names import OCTET_STREAM
from molecule_grpc.upload.rules import MIB, Limits, body_too_large
from molecule_grpc.upload.store import targets
from molecule_grpc.upload.store.targets import Target

log = structlog.get_logger("molecule_grpc.upload")

LARGEST_DOWNLOAD = 100 * MIB

_INGEST = "/internal/chat/uploads/ingest"
_READ = "/internal/file/read"
_TIMEOUT = aiohttp.ClientTimeout(total=1200, sock_connect=10, sock_read=60)
_LARGEST_ANSWER = MIB
_FRAME_BYTES = 256 * 1024
_SECRET_RETRY_SECONDS = 30
_OK = 200
_NOT_FOUND = 404


class Answer(NamedTuple):
    """What an agent said about files."""

    status: int
    content_type: str
    body: bytes


class Forwarder:
    """Calls agents at their address, with the secret that proves the platform to them."""

    def __init__(self, pool: Pool, limits: Limits, settings: Settings) -> None:
        self._pool = pool
        self._limits = limits
        self._mode = egress.Mode.of(settings.deployment)

    async def send(self, target: Target, content_type: str, pieces: AsyncIterator[bytes]) -> Answer:
        """Pass a multipart body on, and the agent's answer back.

        Raises:
            Invalid: URL_NOT_ALLOWED, or BODY_TOO_LARGE.
            Unavailable: AGENT_UNREACHABLE or INBOUND_SECRET_PENDING.
        """
        outgoing = _Outgoing(pieces, self._limits)
        try:
            async with self._calling(target) as session:
                response = await session.post(
                    _at(target, _INGEST),
                    data=outgoing.capped(),
                    headers={"content-type": content_type},
                    allow_redirects=False,
                )
                body = await _whole(response)
        except Unavailable:
            if outgoing.failure is not None:
                raise outgoing.failure from None
            raise
        log.info("upload forwarded", workspace_id=str(target.id), status=response.status)
        return Answer(response.status, response.headers.get("content-type", ""), body)

    async def read(
        self, target: Target, path: str, call: Call
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """A file of the agent.

        Raises:
            Invalid: URL_NOT_ALLOWED, or BODY_TOO_LARGE.
            NotFound: the agent has no such file.
            Unavailable: AGENT_UNREACHABLE or INBOUND_SECRET_PENDING.
        """
        async with self._calling(target) as session:
            response = await session.get(
                _at(target, _READ), params={"path": path}, allow_redirects=False
            )
            _require_file(response)
            _dress(call, response)
            content_type = response.headers.get("content-type", "") or OCTET_STREAM
            seen = 0
            async for piece in response.content.iter_chunked(_FRAME_BYTES):
                seen += len(piece)
                if seen > LARGEST_DOWNLOAD:
                    raise body_too_large(LARGEST_DOWNLOAD)
                yield httpbody_pb2.HttpBody(content_type=content_type, data=piece)
            if not seen:
                yield httpbody_pb2.HttpBody(content_type=content_type)

    @contextlib.asynccontextmanager
    async def _calling(self, target: Target) -> AsyncIterator[aiohttp.ClientSession]:
        """A session that reaches only the addresses that were checked for this call."""
        secret = await self._secret(target)
        checked = await self._checked(target)
        try:
            async with aiohttp.ClientSession(
                connector=egress.connector(checked),
                timeout=_TIMEOUT,
                auto_decompress=False,
                headers={"authorization": f"Bearer {secret}"},
            ) as session:
                yield session
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.warning(
                "agent unreachable", workspace_id=str(target.id), error=type(error).__name__
            )
            raise _unreachable() from error

    async def _checked(self, target: Target) -> egress.CheckedUrl:
        try:
            return await egress.resolve_checked(target.url, self._mode)
        except egress.Unresolvable as error:
            raise _unreachable() from error
        except Invalid as error:
            raise Invalid(
                "workspace URL not allowed", field="url", reason="URL_NOT_ALLOWED"
            ) from error

    async def _secret(self, target: Target) -> str:
        if target.secret:
            return target.secret
        with database_errors():
            await targets.give_secret(self._pool, target.id, mint().text)
        raise Unavailable(
            "the workspace has yet to learn the platform's secret",
            reason="INBOUND_SECRET_PENDING",
            retry_after=_SECRET_RETRY_SECONDS,
            body={"retry_after_seconds": _SECRET_RETRY_SECONDS},
        )


class _Outgoing:
    """A body on its way to an agent.

    Args:
        failure: why it broke off on our side. The HTTP client would call that the agent's fault.
    """

    def __init__(self, pieces: AsyncIterator[bytes], limits: Limits) -> None:
        self.failure: MoleculeError | None = None
        self._pieces = pieces
        self._limits = limits

    async def capped(self) -> AsyncIterator[bytes]:
        seen = 0
        try:
            async for piece in self._pieces:
                seen += len(piece)
                if seen > self._limits.per_body:
                    raise body_too_large(self._limits.per_request)
                if piece:
                    yield piece
        except MoleculeError as error:
            self.failure = error
            raise


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > _LARGEST_ANSWER:
            raise Unavailable("the workspace's answer is too long", reason="AGENT_UNREACHABLE")
    return bytes(body)


def _unreachable() -> Unavailable:
    return Unavailable("workspace unreachable", reason="AGENT_UNREACHABLE")


def _at(target: Target, path: str) -> str:
    return target.url.rstrip("/") + path


def _require_file(response: aiohttp.ClientResponse) -> None:
    if response.status == _NOT_FOUND:
        raise NotFound("file not found")
    if response.status != _OK:
        raise Unavailable(
            f"the workspace answered with status {response.status}", reason="AGENT_UNREACHABLE"
        )
    if (response.content_length or 0) > LARGEST_DOWNLOAD:
        raise body_too_large(LARGEST_DOWNLOAD)


def _dress(call: Call, response: aiohttp.ClientResponse) -> None:
    """Headers of a download. Whatever the agent says, a browser must not show the file."""
    said = response.headers.get("content-disposition", "")
    attached = said.isascii() and said.lower().startswith("attachment")
    call.headers["content-disposition"] = said if attached else "attachment"
    call.headers["cache-control"] = "private, no-transform"
    if response.content_length is not None:
        call.headers["x-content-length"] = str(response.content_length)
