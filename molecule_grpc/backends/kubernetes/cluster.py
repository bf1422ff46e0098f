"""Calls of a cluster's API: plain JSON, by the account of a kubeconfig file or of this pod."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, Protocol, cast

import aiohttp

from molecule_grpc.backends.contract.failures import BackendFailure, FailureReason
from molecule_grpc.backends.contract.names import BackendName
from molecule_grpc.backends.kubernetes.failures import ApiError
from molecule_grpc.backends.kubernetes.names import Json
from molecule_grpc.kernel.holding import require_no_connection
from molecule_grpc.settings.kubernetes import KubernetesSettings

_JSON: Final = "application/json"
_APPLY: Final = "application/apply-patch+yaml"
_MERGE: Final = "application/merge-patch+json"
_MANAGER: Final = "molecule-grpc"
_MOST_ERROR_BYTES: Final = 64 * 1024


class _Client(Protocol):
    """What is used of `kubernetes_asyncio.client.ApiClient`."""

    configuration: Any
    rest_client: Any

    async def call_api(self, path: str, verb: str, **given: Any) -> aiohttp.ClientResponse: ...

    async def update_params_for_auth(
        self, headers: dict[str, str], queries: list[Any], settings: list[str]
    ) -> None: ...

    async def close(self) -> None: ...


class Cluster:
    """One namespace of one cluster. Connects with the first call."""

    def __init__(self, settings: KubernetesSettings) -> None:
        self._settings = settings
        self._client: _Client | None = None
        self._opening = asyncio.Lock()

    @property
    def namespace(self) -> str:
        """Where everything is made."""
        return self._settings.namespace

    async def get(self, path: str, **query: Any) -> Json:
        """An object or a list. Raises `ApiError`."""
        return await self._json("GET", path, query)

    async def find(self, path: str) -> Json | None:
        """An object; None if it is not there."""
        try:
            return await self.get(path)
        except ApiError as error:
            if error.is_missing:
                return None
            raise

    async def apply(self, path: str, body: Json) -> Json:
        """Make the object what `body` says, whether it is there or not.

        Fields that an earlier body had and this one lacks are removed. With a `resourceVersion` in
        the metadata of `body` the call fails if the object has another one by now.
        """
        query = {"fieldManager": _MANAGER, "force": "true"}
        return await self._json("PATCH", path, query, body, _APPLY)

    async def merge(self, path: str, body: Json) -> Json:
        """Change some fields of an existing object."""
        return await self._json("PATCH", path, {}, body, _MERGE)

    async def post(self, path: str, body: Json) -> Json:
        """Create an object, or ask a question that is one."""
        return await self._json("POST", path, {}, body)

    async def delete(self, path: str, body: Json | None = None) -> bool:
        """Delete an object. Whether it was there."""
        try:
            await self._json("DELETE", path, {}, body or {})
        except ApiError as error:
            if error.is_missing:
                return False
            raise
        return True

    @contextlib.asynccontextmanager
    async def stream(self, path: str, **query: Any) -> AsyncIterator[aiohttp.StreamReader]:
        """An answer's body, to be read piece by piece. Raises `ApiError`."""
        answer = await self._call("GET", path, query)
        try:
            await _require_success(answer)
            yield answer.content
        finally:
            answer.close()

    @contextlib.asynccontextmanager
    async def websocket(
        self, path: str, query: list[tuple[str, str]], protocols: tuple[str, ...]
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A connection both of whose sides speak. Raises `ApiError`: the server refuses it."""
        client = await self._open()
        headers: dict[str, str] = {}
        await client.update_params_for_auth(headers, [], ["BearerToken"])
        session: aiohttp.ClientSession = client.rest_client.pool_manager
        try:
            async with session.ws_connect(
                client.configuration.host + path,
                params=query,
                headers=headers,
                protocols=protocols,
                max_msg_size=0,
            ) as socket:
                yield socket
        except aiohttp.WSServerHandshakeError as error:
            raise ApiError(error.status, "Handshake", error.message) from error

    async def close(self) -> None:
        """Close connections."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _json(
        self,
        verb: str,
        path: str,
        query: Mapping[str, Any],
        body: Json | None = None,
        content_type: str = _JSON,
    ) -> Json:
        answer = await self._call(verb, path, query, body, content_type)
        try:
            await _require_success(answer)
            return cast("Json", json.loads(await answer.read()))
        finally:
            answer.close()

    async def _call(
        self,
        verb: str,
        path: str,
        query: Mapping[str, Any],
        body: Json | None = None,
        content_type: str = _JSON,
    ) -> aiohttp.ClientResponse:
        client = await self._open()
        return await client.call_api(
            path,
            verb,
            query_params=[(name, str(value)) for name, value in query.items()],
            header_params={"Accept": _JSON, "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
            _preload_content=False,
        )

    async def _open(self) -> _Client:
        require_no_connection("the cluster")
        async with self._opening:
            if self._client is None:
                self._client = await _connect(self._settings)
            return self._client


async def _connect(settings: KubernetesSettings) -> _Client:
    # Late: the package takes half a second to load, and most installations have no cluster.
    try:
        from kubernetes_asyncio import client, config  # noqa: PLC0415
    except ImportError as error:
        raise _unconfigured("install molecule-grpc[kubernetes]", error) from error
    configuration = client.Configuration()
    try:
        if settings.kubeconfig or settings.context:
            await config.load_kube_config(
                settings.kubeconfig or None,
                settings.context or None,
                client_configuration=configuration,
            )
        else:
            load: Callable[..., None] = config.load_incluster_config
            load(client_configuration=configuration)
    except config.ConfigException as error:
        raise _unconfigured("no account of a cluster is configured", error) from error
    return cast("_Client", client.ApiClient(configuration))


def _unconfigured(public: str, error: Exception) -> BackendFailure:
    return BackendFailure(
        FailureReason.NOT_CONFIGURED,
        f"the backend {BackendName.KUBERNETES} cannot be used: {public}",
        detail=str(error),
    )


async def _require_success(answer: aiohttp.ClientResponse) -> None:
    if answer.status < 400:
        return
    text = await answer.content.read(_MOST_ERROR_BYTES)
    reason, message = "", text.decode(errors="replace")
    with contextlib.suppress(ValueError, AttributeError):
        status = json.loads(text)
        reason, message = str(status.get("reason", "")), str(status.get("message", ""))
    raise ApiError(answer.status, reason, message)
