"""What a server of the contract must do, must do if it claims a capability, or should do."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from molecule_grpc.memory.contract.golden import GOLDEN, difference, filled
from molecule_grpc.memory.contract.objects import Capability
from molecule_grpc.memory.contract.probe import Broken, Server
from molecule_grpc.memory.contract.times import as_text

_PARALLEL: Final = 100
_MORE_THAN_A_PAGE: Final = 120


@dataclass(frozen=True, slots=True)
class Check:
    """A check.

    Args:
        needs: only of servers that claim this capability.
        required: whether the platform cannot work without it.
    """

    name: str
    run: Callable[[Server], Awaitable[None]]
    needs: Capability | None = None
    required: bool = True


async def golden(server: Server) -> None:
    run = uuid.uuid4().hex
    names = {"a": f"workspace:{run}", "b": f"team:{run}"}
    health = await server.expect(200, "GET", "/v1/health")
    if not isinstance(health["capabilities"], list):
        raise Broken("capabilities must be a list, also when it is empty")
    server.capabilities = frozenset(health["capabilities"])
    for each in GOLDEN:
        path, body = filled(each.path, names), filled(each.body, names)
        answer = await server.expect(each.status, each.method, path, body)
        wrong = None if each.answer is None else difference(filled(each.answer, names), answer)
        if wrong:
            raise Broken(f"{each.name}: {wrong}")
    await server.expect(204, "DELETE", f"/v1/namespaces/{names['a']}")


async def _round_trip(server: Server) -> None:
    await server.empty()
    if await server.search(server.a):
        raise Broken("an empty namespace has memories")
    memory_id = await server.write(server.a, "kept as it was sent")
    if await server.contents(server.a) != ["kept as it was sent"]:
        raise Broken("a memory is not found after its write")
    body = {"requested_by_namespace": server.a}
    await server.expect(204, "DELETE", f"/v1/memories/{memory_id}", body)
    if await server.search(server.a):
        raise Broken("a forgotten memory is found")
    await server.expect(404, "DELETE", f"/v1/memories/{memory_id}", body)


async def _odd_texts(server: Server) -> None:
    await server.empty()
    texts = {"“quoted” 'single' \"double\" \\ back", "日本語 ไทย 🙂 e\u0301", "%_ --; DROP\n\ttab"}
    for text in texts:
        await server.write(server.a, text)
    if set(await server.contents(server.a)) != texts:
        raise Broken("a text with quotes, accents or line breaks came back otherwise")


async def _nul(server: Server) -> None:
    await server.empty()
    body = {"content": "a\x00b", "kind": "fact", "source": "agent"}
    status, _ = await server.ask("POST", f"/v1/namespaces/{server.a}/memories", body)
    if status >= 500:
        raise Broken(f"a NUL in a text is answered by {status}: the platform counts a failure")


async def _separate(server: Server) -> None:
    await server.empty()
    await server.write(server.a, "of a")
    await server.write(server.b, "of b")
    if await server.contents(server.a) != ["of a"]:
        raise Broken("a search gives memories of a namespace that was not named")
    if set(await server.contents(server.a, server.b)) != {"of a", "of b"}:
        raise Broken("a search of two namespaces does not give those of both")


async def _foreign_forget(server: Server) -> None:
    await server.empty()
    memory_id = await server.write(server.a, "of a")
    body = {"requested_by_namespace": server.b}
    status, _ = await server.ask("DELETE", f"/v1/memories/{memory_id}", body)
    if status not in (403, 404):
        raise Broken(f"forgetting in another namespace is answered by {status}")
    if await server.contents(server.a) != ["of a"]:
        raise Broken("a memory was forgotten by another namespace")


async def _cascade(server: Server) -> None:
    await server.empty()
    await server.write(server.a, "goes along")
    await server.expect(204, "DELETE", f"/v1/namespaces/{server.a}")
    await server.expect(404, "DELETE", f"/v1/namespaces/{server.a}")
    await server.expect(200, "PUT", f"/v1/namespaces/{server.a}", {"kind": "custom"})
    if await server.search(server.a):
        raise Broken("memories outlive their namespace")


async def _parallel(server: Server) -> None:
    await server.empty()
    texts = {f"number {n}" for n in range(_PARALLEL)}
    ids = await asyncio.gather(*(server.write(server.a, text) for text in texts))
    if len(set(ids)) != _PARALLEL:
        raise Broken("two writes got the same id")
    if set(await server.contents(server.a)) != texts:
        raise Broken(f"of {_PARALLEL} writes at once some are not found")


async def _kinds(server: Server) -> None:
    await server.empty()
    await server.write(server.a, "a fact")
    await server.write(server.a, "a summary", kind="summary")
    if await server.contents(server.a, kinds=["summary"]) != ["a summary"]:
        raise Broken("kinds are not honoured: pages may be short")


async def _limit(server: Server) -> None:
    await server.empty()
    for n in range(3):
        await server.write(server.a, f"number {n}")
    if len(await server.search(server.a, limit=2)) != 2:
        raise Broken("limit is not honoured: answers may be large")


async def _upsert(server: Server) -> None:
    await server.empty()
    memory_id = str(uuid.uuid4())
    if await server.write(server.a, "first", id=memory_id) != memory_id:
        raise Broken("an id is not kept: a repeated backfill doubles memories")
    await server.write(server.a, "second", id=memory_id)
    if await server.contents(server.a) != ["second"]:
        raise Broken("an id that came twice made two memories")


async def _stolen_id(server: Server) -> None:
    await server.empty()
    memory_id = str(uuid.uuid4())
    if await server.write(server.a, "mine", id=memory_id) != memory_id:
        return
    body = {"content": "yours", "kind": "fact", "source": "agent", "id": memory_id}
    status, _ = await server.ask("POST", f"/v1/namespaces/{server.b}/memories", body)
    if status < 400 or await server.contents(server.a) != ["mine"]:
        raise Broken("whoever knows an id overwrites the memory of another namespace")


async def _refusals(server: Server) -> None:
    await server.empty()
    path = f"/v1/namespaces/{server.a}/memories"
    right = {"content": "x", "kind": "fact", "source": "agent"}
    wrong: tuple[tuple[str, str, Any], ...] = (
        ("POST", "/v1/search", {"namespaces": []}),
        ("POST", "/v1/search", {"namespaces": [server.a], "limit": 101}),
        ("POST", path, right | {"content": "  "}),
        ("POST", path, right | {"kind": "rumour"}),
        ("POST", path, right | {"source": "nobody"}),
        ("PATCH", f"/v1/namespaces/{server.a}", {}),
        ("PUT", "/v1/namespaces/UPPER", {"kind": "custom"}),
        ("PUT", f"/v1/namespaces/{server.a}", {"kind": "team"}),
        ("DELETE", f"/v1/memories/{uuid.uuid4()}", {}),
    )
    for method, at, body in wrong:
        await server.expect(400, method, at, body)
    missing = f"/v1/namespaces/custom:{uuid.uuid4().hex}"
    await server.expect(404, "POST", f"{missing}/memories", right)
    await server.expect(404, "PATCH", missing, {"metadata": {}})


async def _no_route(server: Server) -> None:
    await server.expect(404, "GET", "/v1/nothing")
    await server.expect(405, "PUT", "/v1/search", {})


async def _patch(server: Server) -> None:
    await server.empty()
    later = as_text(datetime.now(UTC).replace(microsecond=0) + timedelta(days=1))
    path = f"/v1/namespaces/{server.a}"
    await server.expect(200, "PATCH", path, {"expires_at": later, "metadata": {"a": 'b"'}})
    kept = await server.expect(200, "PUT", path, {"kind": "custom"})
    if kept.get("metadata") != {"a": 'b"'} or not kept.get("expires_at"):
        raise Broken("a PUT without expires_at and metadata removed them")
    changed = await server.expect(200, "PATCH", path, {"metadata": None})
    if changed.get("metadata") is not None or not changed.get("expires_at"):
        raise Broken("a PATCH of metadata to null did not remove it, or more than it")


async def _words(server: Server) -> None:
    await server.empty()
    await server.write(server.a, "the harbour closes at nine")
    await server.write(server.a, "bread is in the kitchen")
    found = await server.contents(server.a, query="when does the harbour close?")
    if found[:1] != ["the harbour closes at nine"]:
        raise Broken("a question does not find the memory that shares its words")


async def _time_to_live(server: Server) -> None:
    await server.empty()
    past = as_text(datetime.now(UTC) - timedelta(hours=1))
    await server.write(server.a, "is over", expires_at=past)
    await server.write(server.a, "stays")
    for query in ("", "over", "o"):
        if "is over" in await server.contents(server.a, query=query):
            raise Broken(f"an expired memory is found by {query!r}")
    await server.expect(200, "PATCH", f"/v1/namespaces/{server.a}", {"expires_at": past})
    if await server.search(server.a):
        raise Broken("an expired namespace has memories")


async def _pin(server: Server) -> None:
    await server.empty()
    await server.write(server.a, "pinned", pin=True)
    await server.write(server.a, "newer")
    if await server.contents(server.a) != ["pinned", "newer"]:
        raise Broken("a list does not begin with what is pinned")


async def _propagation(server: Server) -> None:
    await server.empty()
    sent = {"author": "a", "nested": {"list": [1, None, "\\"]}}
    await server.write(server.a, "has an object", propagation=sent)
    await server.write(server.a, "has none")
    found = {each["content"]: each.get("propagation") for each in await server.search(server.a)}
    if found != {"has an object": sent, "has none": None}:
        raise Broken(f"propagation came back otherwise: {found!r:.200}")


async def _list(server: Server) -> None:
    await server.empty()
    texts = {f"number {n}" for n in range(_MORE_THAN_A_PAGE)}
    await asyncio.gather(*(server.write(server.a, text) for text in texts))
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        path = f"/v1/namespaces/{server.a}/memories?cursor={cursor}"
        page = await server.expect(200, "GET", path)
        seen += [each["content"] for each in page["memories"]]
        cursor = page.get("next_cursor")
        if len(seen) > len(texts):
            break
    if sorted(seen) != sorted(texts):
        raise Broken(f"of {len(texts)} memories a list gave {len(seen)}")


async def _vectors(server: Server) -> None:
    await server.empty()
    near, far = [0.0] * 384, [0.0] * 384
    near[0], far[1] = 1.0, 1.0
    await server.write(server.a, "far", embedding=far)
    await server.write(server.a, "near", embedding=near)
    if (await server.contents(server.a, embedding=near))[:1] != ["near"]:
        raise Broken("the nearest memory is not first")
    status, _ = await server.ask(
        "POST", "/v1/search", {"namespaces": [server.a], "embedding": [1.0, 0.5]}
    )
    if status >= 500:
        raise Broken(f"a vector of another length is answered by {status}")


CHECKS: Final = (
    Check("keeps, finds and forgets", _round_trip),
    Check("gives texts back as they came", _odd_texts),
    Check("fails for no text", _nul),
    Check("keeps namespaces apart", _separate),
    Check("forgets for the memory's namespace only", _foreign_forget),
    Check("deletes a namespace with its memories", _cascade),
    Check("takes 100 writes at once", _parallel),
    Check("filters by kind", _kinds, required=False),
    Check("honours the limit", _limit, required=False),
    Check("upserts by id", _upsert, required=False),
    Check("lets no id move between namespaces", _stolen_id),
    Check("refuses what breaks the contract", _refusals, required=False),
    Check("names what it does not serve", _no_route, required=False),
    Check("patches what is sent", _patch, required=False),
    Check("finds by words", _words, needs=Capability.FTS),
    Check("hides what has expired", _time_to_live, needs=Capability.TTL),
    Check("lists pinned memories first", _pin, needs=Capability.PIN),
    Check("gives propagation back", _propagation, needs=Capability.PROPAGATION),
    Check("lists all memories in pages", _list, needs=Capability.LIST),
    Check("ranks by vectors", _vectors, needs=Capability.EMBEDDING),
)
