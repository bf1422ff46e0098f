"""Calls to the control plane: one session, a deadline for each call, answers of bounded size."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import aiohttp

from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason
from molecule_grpc.kernel.holding import require_no_connection
from molecule_grpc.settings.control_plane import ControlPlaneSettings

MAX_ANSWER_BYTES: Final = 64 * 1024
_CONNECTIONS: Final = 64


class Answer(NamedTuple):
    """Status and body, whatever the status."""

    status: int
    body: bytes

    @property
    def success(self) -> bool:
        return 200 <= self.status < 300


class ControlPlaneClient:
    """Sends requests. Follows no redirect: an answer of another place is none of the control plane.

    Args:
        admin_token: of this platform, which the control plane may ask for beside its own secret.
        installation: id of this installation, borne by every request.
    """

    def __init__(
        self, settings: ControlPlaneSettings, *, admin_token: str, installation: str
    ) -> None:
        self._settings = settings
        self._headers = {"x-molecule-installation-id": installation}
        if admin_token:
            self._headers["x-molecule-admin-token"] = admin_token
        self._session: aiohttp.ClientSession | None = None

    async def ask(
        self,
        method: str,
        path: str,
        *,
        deadline: float,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        token: str = "",
        most: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        """One request, once.

        Args:
            token: bearer token; empty for the shared secret.
            most: bytes of the answer that are read; a longer one is a failure.

        Raises:
            BackendFailure: `unreachable`, `timeout`, or an answer that is too long.
        """
        require_no_connection("the control plane")
        bearer = token or self._settings.secret
        try:
            async with (
                asyncio.timeout(min(deadline, self._settings.timeout)),
                self._opened().request(
                    method,
                    self._settings.base_url + path,
                    params=query,
                    json=body,
                    headers={
                        **self._headers,
                        **(headers or {}),
                        **({"authorization": f"Bearer {bearer}"} if bearer else {}),
                    },
                    allow_redirects=False,
                ) as response,
            ):
                return Answer(response.status, await _read(response, most))
        except aiohttp.ClientConnectorError as error:
            raise BackendFailure(
                FailureReason.UNREACHABLE,
                "the control plane cannot be reached",
                detail=type(error).__name__,
                retryable=True,
                undone=True,
            ) from error
        except TimeoutError as error:
            raise BackendFailure(
                FailureReason.TIMEOUT, "the control plane took too long", retryable=True
            ) from error
        except aiohttp.ClientError as error:
            raise BackendFailure(
                FailureReason.UNREACHABLE,
                "the connection to the control plane broke",
                detail=type(error).__name__,
                retryable=True,
            ) from error

    async def close(self) -> None:
        """Close its connections."""
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
                # The call's deadline bounds all of it.
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(most):
        body += chunk
        if len(body) > most:
            raise BackendFailure(
                FailureReason.ENGINE,
                "the control plane's answer is too long",
                detail=f"HTTP {response.status}, above {most} bytes",
            )
    return bytes(body)
