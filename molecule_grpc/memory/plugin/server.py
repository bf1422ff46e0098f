"""Serves a store of memories by version 1 of the contract, over HTTP without authentication."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from aiohttp import web

from molecule_grpc.memory.contract.errors import ErrorCode, StoreError, refusal
from molecule_grpc.memory.contract.fields import ContractInvalid, mapping, namespace, text
from molecule_grpc.memory.contract.namespaces import NamespacePatch, NamespacePut
from molecule_grpc.memory.contract.objects import VERSION, MemoryWrite, SearchRequest
from molecule_grpc.memory.contract.port import ContractStore

log = structlog.get_logger(__name__)

# A text of 100,000 bytes may take six times that as JSON, its vector 100 kB more.
_MOST_BODY_BYTES: Final = 2 * 1024 * 1024
_STORE: Final = web.AppKey("store", ContractStore)


def contract_application(store: ContractStore) -> web.Application:
    """The routes of the contract over a store. No answer tells what went wrong inside."""
    app = web.Application(middlewares=[_errors], client_max_size=_MOST_BODY_BYTES)
    app[_STORE] = store
    app.add_routes(
        [
            web.get("/v1/health", _health),
            web.put("/v1/namespaces/{name}", _put_namespace),
            web.patch("/v1/namespaces/{name}", _patch_namespace),
            web.delete("/v1/namespaces/{name}", _delete_namespace),
            web.post("/v1/namespaces/{name}/memories", _commit),
            web.get("/v1/namespaces/{name}/memories", _page),
            web.post("/v1/search", _search),
            web.delete("/v1/memories/{id}", _forget),
        ]
    )
    return app


async def _health(request: web.Request) -> web.StreamResponse:
    try:
        health = await request.app[_STORE].health()
    except StoreError as error:
        log.warning("the store is degraded", error=str(error))
        body = {"status": "degraded", "version": VERSION, "capabilities": []}
        return web.json_response(body, status=503)
    return web.json_response(health.json())


async def _put_namespace(request: web.Request) -> web.StreamResponse:
    put = NamespacePut.parse(await _json(request))
    made = await request.app[_STORE].put_namespace(_name(request), put)
    return web.json_response(made.json())


async def _patch_namespace(request: web.Request) -> web.StreamResponse:
    patch = NamespacePatch.parse(await _json(request))
    patched = await request.app[_STORE].patch_namespace(_name(request), patch)
    return web.json_response(patched.json())


async def _delete_namespace(request: web.Request) -> web.StreamResponse:
    await request.app[_STORE].delete_namespace(_name(request))
    return web.Response(status=204)


async def _commit(request: web.Request) -> web.StreamResponse:
    write = MemoryWrite.parse(await _json(request))
    written = await request.app[_STORE].commit(_name(request), write)
    return web.json_response(written.json(), status=201)


async def _page(request: web.Request) -> web.StreamResponse:
    cursor = request.query.get("cursor", "")
    return web.json_response((await request.app[_STORE].page(_name(request), cursor)).json())


async def _search(request: web.Request) -> web.StreamResponse:
    search = SearchRequest.parse(await _json(request))
    found = await request.app[_STORE].search(search)
    return web.json_response({"memories": [memory.json() for memory in found]})


async def _forget(request: web.Request) -> web.StreamResponse:
    body = mapping(await _json(request), "body")
    requested_by = namespace(text(body, "requested_by_namespace"))
    await request.app[_STORE].forget(request.match_info["id"], requested_by)
    return web.Response(status=204)


def _name(request: web.Request) -> str:
    return namespace(request.match_info["name"])


async def _json(request: web.Request) -> Any:
    try:
        return json.loads(await request.read())
    except (ValueError, RecursionError):
        raise ContractInvalid("the body is not JSON") from None


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except Exception as error:
        named = _named(error)
        if named is None:
            log.exception("a request to the store failed", method=request.method, path=request.path)
            named = StoreError(ErrorCode.INTERNAL, "internal error")
        return web.json_response(named.json(), status=named.status)


def _named(error: Exception) -> StoreError | None:
    """What the caller is told; None for a fault of this server, which only its log explains."""
    if isinstance(error, StoreError):
        return error
    if isinstance(error, ContractInvalid):
        return refusal(error)
    if isinstance(error, web.HTTPNotFound):
        return StoreError(ErrorCode.NOT_FOUND, "no route")
    if isinstance(error, web.HTTPException):
        return StoreError(ErrorCode.BAD_REQUEST, error.reason.lower(), status=error.status)
    return None
