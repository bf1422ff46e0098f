"""The engine's API: aiodocker, and the streams for which it has no bytes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import aiohttp
from aiodocker import Docker
from aiodocker.exceptions import DockerError

from molecule_grpc.backends.docker.failures import is_missing, unreachable
from molecule_grpc.backends.docker.names import Json
from molecule_grpc.kernel.holding import require_no_connection

_UNLIMITED: Final = aiohttp.ClientTimeout(total=None)
_CHUNK_BYTES: Final = 64 * 1024


class Engine:
    """One engine. Connects with the first call, and again after whatever has become of the engine.

    Each of the two clients has at most 100 connections: a stop never waits for a follower of logs.

    Args:
        host: URL; empty for the engine that the `docker` command would use.
    """

    def __init__(self, host: str = "") -> None:
        self._host = host
        self._docker: Docker | None = None
        self._lasting: Docker | None = None

    @property
    def docker(self) -> Docker:
        """The client of calls that are over soon. Callers bound each call: it has no timeouts.

        Raises:
            BackendFailure: `unreachable`: no engine is named, and none found.
        """
        require_no_connection("the engine")
        if self._docker is None:
            self._docker = _client(self._host)
        return self._docker

    @property
    def lasting(self) -> Docker:
        """The client of files, logs and terminals, which keep a connection for as long as it takes.

        Raises:
            BackendFailure: `unreachable`: no engine is named, and none found.
        """
        require_no_connection("the engine")
        if self._lasting is None:
            self._lasting = _client(self._host)
        return self._lasting

    async def get(self, path: str, **params: Any) -> Any:
        """An answer in JSON."""
        async with self.request("GET", path, params=params) as answer:
            return json.loads(await answer.read())

    async def post(self, path: str, body: Json | None = None, **params: Any) -> Any:
        """Send JSON; the answer in JSON, None without one."""
        headers = {"content-type": "application/json"}
        data = json.dumps(body or {}).encode()
        async with self.request("POST", path, params=params, data=data, headers=headers) as answer:
            text = await answer.read()
        return json.loads(text) if text else None

    async def delete(self, path: str, **params: Any) -> bool:
        """Delete something. Whether it was there."""
        try:
            async with self.request("DELETE", path, params=params) as answer:
                await answer.read()
        except DockerError as error:
            if is_missing(error):
                return False
            raise
        return True

    @contextlib.asynccontextmanager
    async def request(
        self,
        verb: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        lasting: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A call of the engine's API, whose answer may be read as a stream.

        Args:
            lasting: the stream is read at somebody else's pace.

        Raises:
            DockerError: the engine refuses.
        """
        docker = self.lasting if lasting else self.docker
        if docker.api_version == "auto":
            await docker.version()  # Which has the client agree on a version.
        url = f"{docker.docker_host}/{docker.api_version}/{path}"
        given = {name: _parameter(value) for name, value in (params or {}).items()}
        async with docker.session.request(
            verb, url, params=given, data=data, headers=headers, timeout=_UNLIMITED
        ) as answer:
            if answer.status >= 400:
                raise DockerError(answer.status, _message(await answer.read()))
            yield answer

    async def bytes(self, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """The body of an answer as it comes."""
        async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
            yield chunk

    async def close(self) -> None:
        """Close connections."""
        for client in (self._docker, self._lasting):
            if client is not None:
                await client.close()
        self._docker = self._lasting = None


def _client(host: str) -> Docker:
    try:
        docker = Docker(host or None)
    except (AssertionError, ValueError, DockerError) as error:
        # An assertion is how aiodocker says that it found no engine.
        raise unreachable(f"no engine found: {error!r}") from error
    return docker


def _parameter(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value)


def _message(body: bytes) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(body)["message"])
    return body.decode(errors="replace")[:2048]
