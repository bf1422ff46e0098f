"""A store of memories that can do nothing but keep texts, as a stranger might write one.

Run by itself it serves at the port that its argument names.
"""

from __future__ import annotations

import json
import sys

from aiohttp import web

MEMORIES: web.AppKey[dict[str, dict[str, object]]] = web.AppKey("memories", dict)
NAMES: web.AppKey[set[str]] = web.AppKey("names", set)
IDS: web.AppKey[list[str]] = web.AppKey("ids", list)


async def health(_: web.Request) -> web.Response:
    return web.json_response({"status": "ok", "version": "1.0.0", "capabilities": []})


async def put_namespace(request: web.Request) -> web.Response:
    name, body = request.match_info["name"], await request.json()
    request.app[NAMES].add(name)
    return web.json_response({"name": name, "kind": body["kind"]})


async def delete_namespace(request: web.Request) -> web.Response:
    name, memories = request.match_info["name"], request.app[MEMORIES]
    if name not in request.app[NAMES]:
        return web.Response(status=404, text="no such namespace")
    request.app[NAMES].discard(name)
    for key in [key for key, each in memories.items() if each["namespace"] == name]:
        del memories[key]
    return web.Response(status=204)


async def commit(request: web.Request) -> web.Response:
    body = json.loads(await request.text())
    ids = request.app[IDS]
    memory_id = f"flat-{len(ids) + 1}"
    ids.append(memory_id)
    memory: dict[str, object] = {
        "id": memory_id,
        "namespace": request.match_info["name"],
        "created_at": "2026-01-01T00:00:00Z",
    }
    memory |= {key: body[key] for key in ("content", "kind", "source") if key in body}
    request.app[MEMORIES][memory_id] = memory
    return web.json_response({"id": memory_id, "namespace": memory["namespace"]}, status=201)


async def search(request: web.Request) -> web.Response:
    names = (await request.json())["namespaces"]
    found = [each for each in request.app[MEMORIES].values() if each["namespace"] in names]
    return web.json_response({"memories": found[::-1]})


async def forget(request: web.Request) -> web.Response:
    memory_id, body = request.match_info["id"], await request.json()
    found = request.app[MEMORIES].get(memory_id)
    if found is None or found["namespace"] != body["requested_by_namespace"]:
        return web.Response(status=404, text="no such memory")
    del request.app[MEMORIES][memory_id]
    return web.Response(status=204)


def flat_application() -> web.Application:
    app = web.Application()
    app[MEMORIES], app[NAMES], app[IDS] = {}, set(), []
    app.router.add_get("/v1/health", health)
    app.router.add_put("/v1/namespaces/{name}", put_namespace)
    app.router.add_delete("/v1/namespaces/{name}", delete_namespace)
    app.router.add_post("/v1/namespaces/{name}/memories", commit)
    app.router.add_post("/v1/search", search)
    app.router.add_delete("/v1/memories/{id}", forget)
    return app


if __name__ == "__main__":
    web.run_app(flat_application(), host="127.0.0.1", port=int(sys.argv[1]), print=None)
