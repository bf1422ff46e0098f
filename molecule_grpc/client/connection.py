"""The gRPC channel to a platform, with an address, a token, deadlines and retries."""

from __future__ import annotations

import asyncio
import importlib.metadata
import ipaddress
import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self, TypeVar
from urllib.parse import urlsplit

import grpc
from moleculeai.admin.v1.admin_service_pb2_grpc import AdminServiceStub
from moleculeai.delegation.v1.delegation_service_pb2_grpc import DelegationServiceStub
from moleculeai.memory.v1.memory_service_pb2_grpc import MemoryServiceStub
from moleculeai.upload.v1.upload_service_pb2_grpc import UploadServiceStub
from moleculeai.workspace.v1.workspace_service_pb2_grpc import WorkspaceServiceStub

from molecule_grpc.client.errors import InvalidArgument, to_call_error
from molecule_grpc.client.retry import Backoff, with_retries

Request = TypeVar("Request")
Response = TypeVar("Response")


class PagedRequest(Protocol):
    """A request for a page of a list."""

    page_token: str


Paged = TypeVar("Paged", bound=PagedRequest)

DEFAULT_TIMEOUT = 30.0
# Metadata of a call, counted as HTTP/2 does. A platform refuses a call with more, and ends the
# connection, with every other call on it, at twice as much.
MAX_METADATA_BYTES = 60 * 1024
_ENTRY_BYTES = 32

_KEEPALIVE_SECONDS = 30
_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.keepalive_time_ms", _KEEPALIVE_SECONDS * 1000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
    # After an outage the channel must be back before the callers' retries run out.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # `with_retries` retries, and knows which calls may be.
    ("grpc.enable_retries", 0),
]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a platform listens.

    Args:
        target: `host:port` or `unix:PATH`, as gRPC wants it.
        tls: whether the connection is encrypted.
        local: whether the connection stays on this machine.
    """

    target: str
    tls: bool
    local: bool

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read `http://host:port`, `https://host`, `host:port` or `unix:/path`.

        Raises:
            ValueError: the text is none of these.
        """
        if url.startswith("unix:"):
            return cls(url, tls=False, local=True)
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            scheme, host, port = parts.scheme, parts.hostname, parts.port
        except ValueError:  # the port is not a number, or too large
            scheme, host, port = "", None, None
        if scheme not in ("http", "https") or not host:
            raise ValueError(f"not the address of a platform: {url!r}")
        tls = scheme == "https"
        port = port or (443 if tls else 80)
        shown = f"[{host}]" if ":" in host else host
        return cls(f"{shown}:{port}", tls=tls, local=_is_loopback(host))


class ClientCertificate(NamedTuple):
    """What a client shows to a platform that serves only clients of an authority of its choice.

    Args:
        chain: PEM of the certificate, followed by those that lead to the authority.
        key: PEM of the certificate's key, without a password.
    """

    chain: bytes
    key: bytes


class Connection:
    """One channel with one token. Used as an async context manager.

    Args:
        url: `http://host:port`, `https://host`, `host:port` or `unix:/path`.
        token: sent with every call; empty for none.
        timeout: seconds for a call with all its attempts, unless the call states its own.
        root_certificates: PEM of the authority that signed the platform's certificate; None for the
            system's.
        client_certificate: shown to a platform that asks its clients for one.
        headers: more metadata for every call.

    Raises:
        ValueError: the URL is none of these.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        timeout: float = DEFAULT_TIMEOUT,
        root_certificates: bytes | None = None,
        client_certificate: ClientCertificate | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.url = url
        self.token = token
        self.timeout = timeout
        self._address = Address.parse(url)
        self.root_certificates = root_certificates
        self.client_certificate = client_certificate
        self._headers = tuple(headers)
        self._channel: grpc.aio.Channel | None = None
        self._answered = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._channel = channel = self._open()
        self.workspaces = WorkspaceServiceStub(channel)
        self.delegations = DelegationServiceStub(channel)
        self.admin = AdminServiceStub(channel)
        self.uploads = UploadServiceStub(channel)
        self.memories = MemoryServiceStub(channel)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of every call: the token and `headers`.

        Raises:
            InvalidArgument: it has more than 60 KiB: nothing was sent.
        """
        bearer = (("authorization", f"Bearer {self.token}"),) if self.token else ()
        entries = (*bearer, *self._headers)
        size = sum(_ENTRY_BYTES + len(key) + len(value.encode()) for key, value in entries)
        if size > MAX_METADATA_BYTES:
            raise InvalidArgument(
                f"token and headers have {size} bytes, at most {MAX_METADATA_BYTES} may be sent",
                code=grpc.StatusCode.INVALID_ARGUMENT,
            )
        return entries

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        retry: bool,
        timeout: float | None = None,
    ) -> Response:
        """Call and wait for the answer.

        Args:
            retry: whether a second call does no harm; then failures that may pass are tried again.
            timeout: seconds for all attempts together; `math.inf` for ever, None for the
                connection's own.

        Raises:
            CallError: the last attempt failed.
        """
        response, _ = await self.call_with_headers(method, request, retry=retry, timeout=timeout)
        return response

    async def call_with_headers(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        *,
        retry: bool,
        timeout: float | None = None,
    ) -> tuple[Response, dict[str, str]]:
        """Like `call`, with the headers of the answer."""
        budget = self.timeout if timeout is None else timeout

        async def attempt(left: float) -> tuple[Response, dict[str, str]]:
            seconds = self.timeout if math.isinf(left) else left
            call = method(request, metadata=self.metadata, timeout=seconds)
            try:
                response = await call
                headers = await call.initial_metadata()
            except grpc.aio.AioRpcError as error:
                raise to_call_error(error) from error
            self._answered.set()
            return response, {key: str(value) for key, value in headers}

        return await with_retries(attempt, budget) if retry else await attempt(budget)

    async def pages(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Paged, Response],
        request: Paged,
    ) -> AsyncIterator[Response]:
        """Read a list page by page, by its `page_token`; each page is tried again like `call`.

        Raises:
            CallError: the last attempt failed.
        """
        while True:
            page, headers = await self.call_with_headers(method, request, retry=True)
            yield page
            request.page_token = headers.get("x-next-page-token", "")
            if not request.page_token:
                return

    async def pause(self, backoff: Backoff) -> None:
        """Wait before the next attempt.

        A new connection, or an answer to another call, shows that the platform is back: both end
        the wait and reset the backoff.
        """
        self._answered.clear()
        signs = {
            asyncio.create_task(self._answered.wait()),
            asyncio.create_task(self._reconnected()),
        }
        try:
            seen, _ = await asyncio.wait(
                signs, timeout=backoff.next_wait(), return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for sign in signs:
                sign.cancel()
        if seen:
            backoff.reset()
            await asyncio.sleep(backoff.next_wait())

    async def _reconnected(self) -> bool:
        """Wait until the channel has connected anew; for ever when it is connected already."""
        assert self._channel is not None
        state = self._channel.get_state(try_to_connect=True)
        if state is grpc.ChannelConnectivity.READY:
            await asyncio.Event().wait()
        while state is not grpc.ChannelConnectivity.READY:
            await self._channel.wait_for_state_change(state)
            state = self._channel.get_state(try_to_connect=True)
        return True

    def _open(self) -> grpc.aio.Channel:
        options = [*_OPTIONS, ("grpc.primary_user_agent", f"molecule-grpc/{version()}")]
        if self._address.local:
            options.append(("grpc.enable_http_proxy", 0))
        if not self._address.tls:
            return grpc.aio.insecure_channel(self._address.target, options)
        chain, key = self.client_certificate or (None, None)
        credentials = grpc.ssl_channel_credentials(self.root_certificates, key, chain)
        return grpc.aio.secure_channel(self._address.target, credentials, options)


def version() -> str:
    """The version of this package; `0` where it is not installed."""
    try:
        return importlib.metadata.version("molecule-grpc")
    except importlib.metadata.PackageNotFoundError:
        return "0"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
