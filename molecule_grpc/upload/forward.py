"""Forwards files to agents that can be called, and reads files from them, as streams."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator

import aiohttp
import structlog

from molecule_grpc.auth.tokens import mint
from molecule_grpc.db.pool import Pool, database_errors
from molecule_grpc.egress import CheckedUrl, Egress, Unresolvable, connector
from molecule_grpc.kernel.budget import Budget
from molecule_grpc.kernel.errors import Conflict, Invalid, MoleculeError, NotFound, Unavailable
from molecule_grpc.kernel.payer import ORGANIZATION, TARGET
from molecule_grpc.upload import refusals
from molecule_grpc.upload.names import OCTET_STREAM
from molecule_grpc.upload.rules import MIB, UploadLimits, body_too_large
from molecule_grpc.upload.store import targets
from molecule_grpc.upload.store.targets import UploadTarget
from molecule_grpc.upload.values import AgentAnswer, Download, UploadedFile

log = structlog.get_logger("molecule_grpc.upload")

LARGEST_DOWNLOAD = 100 * MIB

_INGEST = "/internal/chat/uploads/ingest"
_READ = "/internal/file/read"
_TIMEOUT = aiohttp.ClientTimeout(total=1200, sock_connect=10, sock_read=60)
_LARGEST_ANSWER = MIB
_PIECE_BYTES = 256 * 1024
_SECRET_RETRY_SECONDS = 30
_MAX_SIZE = 2**31 - 1
_OK = 200
_FIRST_REFUSAL = 300
_NOT_FOUND = 404


class Forwarder:
    """Calls agents at their address, with the secret that proves the platform to them.

    Args:
        egress: checks the URLs of agents.
        calls: counts the calls to agents that are open.
    """

    def __init__(self, pool: Pool, limits: UploadLimits, egress: Egress, calls: Budget) -> None:
        self._pool = pool
        self._limits = limits
        self._egress = egress
        self._calls = calls

    async def send(
        self, target: UploadTarget, content_type: str, pieces: AsyncIterator[bytes]
    ) -> AgentAnswer:
        """Pass a multipart body on to an agent, within 20 minutes; the agent's answer.

        Raises:
            Invalid: URL_NOT_ALLOWED, or BODY_TOO_LARGE.
            Unavailable: AGENT_UNREACHABLE or INBOUND_SECRET_PENDING.
        """
        outgoing = _Outgoing(pieces, self._limits)
        try:
            async with (
                self._calling(target) as session,
                session.post(
                    _at(target, _INGEST),
                    data=outgoing.capped(),
                    headers={"content-type": content_type},
                    allow_redirects=False,
                ) as response,
            ):
                body = await _whole(response)
        except Unavailable:
            if outgoing.failure is not None:
                raise outgoing.failure from None
            raise
        log.info("upload forwarded", workspace_id=str(target.id), status=response.status)
        return AgentAnswer(response.status, response.headers.get("content-type", ""), body)

    @contextlib.asynccontextmanager
    async def open(self, target: UploadTarget, path: str) -> AsyncIterator[Download]:
        """A file of the agent, readable while inside.

        Raises:
            Invalid: URL_NOT_ALLOWED, or BODY_TOO_LARGE (more than 100 MiB).
            NotFound: the agent has no such file.
            Unavailable: AGENT_UNREACHABLE or INBOUND_SECRET_PENDING.
        """
        async with (
            self._calling(target) as session,
            session.get(
                _at(target, _READ), params={"path": path}, allow_redirects=False
            ) as response,
        ):
            _require_file(response)
            yield Download(
                content_type=response.headers.get("content-type", "") or OCTET_STREAM,
                headers=_headers(response),
                pieces=_pieces(response),
            )

    @contextlib.asynccontextmanager
    async def _calling(self, target: UploadTarget) -> AsyncIterator[aiohttp.ClientSession]:
        """A session that connects only to the addresses that were checked for this call."""
        secret = await self._secret(target)
        checked = await self._checked(target)
        keys = {ORGANIZATION: target.organization_id, TARGET: target.id}
        try:
            with self._calls.use(1, **keys):
                async with aiohttp.ClientSession(
                    connector=connector(checked),
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

    async def _checked(self, target: UploadTarget) -> CheckedUrl:
        try:
            return await self._egress.check(
                target.url,
                organization=target.organization_id,
                engine_url=target.engine_url,
            )
        except Unresolvable as error:
            raise _unreachable() from error
        except Invalid as error:
            raise Invalid(
                "workspace URL not allowed", field="url", reason="URL_NOT_ALLOWED"
            ) from error

    async def _secret(self, target: UploadTarget) -> str:
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


def files_of(answer: AgentAnswer) -> list[UploadedFile]:
    """The files named by an agent's answer.

    Raises:
        Conflict: the agent refused, or its answer does not name files.
    """
    if answer.status >= _FIRST_REFUSAL:
        raise refusals.refused_by_agent(answer.status)
    try:
        return [_uploaded_file(told) for told in json.loads(answer.body)["files"]]
    except (ValueError, TypeError, KeyError) as error:
        raise Conflict("the agent took the files, and its answer cannot be read") from error


def _uploaded_file(told: dict[str, object]) -> UploadedFile:
    size = int(str(told["size"]))
    if not 0 <= size <= _MAX_SIZE:
        raise ValueError("not the size of a file")
    file = UploadedFile(str(told["uri"]), str(told["name"]), str(told["mimeType"]), size)
    for text in file[:3]:
        text.encode()  # JSON can spell lone surrogates, which no answer of ours can carry
    return file


class _Outgoing:
    """A body on its way to an agent.

    Args:
        failure: why the body broke off on our side, which the HTTP client blames on the agent.
    """

    def __init__(self, pieces: AsyncIterator[bytes], limits: UploadLimits) -> None:
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


def _at(target: UploadTarget, path: str) -> str:
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


def _headers(response: aiohttp.ClientResponse) -> dict[str, str]:
    """Headers of a download. Whatever the agent says, a browser must not show the file."""
    said = response.headers.get("content-disposition", "")
    attached = said.isascii() and said.lower().startswith("attachment")
    headers = {
        "content-disposition": said if attached else "attachment",
        "cache-control": "private, no-transform",
    }
    if response.content_length is not None:
        headers["x-content-length"] = str(response.content_length)
    return headers


async def _pieces(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    """The bytes of a file; an empty file is one empty piece."""
    seen = 0
    async for piece in response.content.iter_chunked(_PIECE_BYTES):
        seen += len(piece)
        if seen > LARGEST_DOWNLOAD:
            raise body_too_large(LARGEST_DOWNLOAD)
        yield piece
    if not seen:
        yield b""
