"""Memories of other libraries in the form of an export, which `import` commits like any other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5

from molecule_grpc.kernel.ids import as_id
from molecule_grpc.memory.contract.times import as_text, as_time
from molecule_grpc.memory.drafting import MAX_ENTITY_BYTES, MAX_LABELS, MAX_TAG_BYTES

_OWNERS: Final = ("user_id", "agent_id", "run_id", "actor_id")
_TEXTS: Final = ("text", "content", "memory", "data", "summary")
# Of `json.dumps(value)` in the text of a memory whose value has no text of its own.
_SEPARATORS: Final = (",", ":")


class Unreadable(Exception):
    """An element has another layout; the message says which element."""


class Where(NamedTuple):
    """Where the memories shall go.

    Args:
        workspace: the name of a live workspace.
        scope: LOCAL, TEAM or GLOBAL of it.
    """

    workspace: str
    scope: str


def elements(text: str) -> Iterator[Mapping[str, Any]]:
    """The objects of a file: an array, an object with `results` or `items`, or a line each.

    Raises:
        Unreadable: the text is none of these.
    """
    try:
        found: object = json.loads(text)
    except ValueError:
        found = [_line(number, line) for number, line in _lines(text)]
    if isinstance(found, dict):
        found = next((found[k] for k in ("results", "items", "memories") if k in found), [found])
    if not isinstance(found, list):
        raise Unreadable("the file holds no list of memories")
    for number, each in enumerate(found):
        if not isinstance(each, dict):
            raise Unreadable(f"element {number} is no object")
        yield each


def from_mem0(element: Mapping[str, Any], where: Where) -> dict[str, Any]:
    """A memory of mem0: as `get_all` gives it, or a row of its table with a `payload`.

    Raises:
        Unreadable: it has no text.
    """
    carried = element.get("payload")
    fields = {**element, **carried} if isinstance(carried, dict) else dict(element)
    content = next((fields[k] for k in ("memory", "data") if _is_text(fields.get(k))), None)
    if content is None:
        raise Unreadable(f"a memory without `memory` or `data`: {element.get('id')}")
    categories = fields.get("categories")
    metadata = fields.get("metadata")
    owners = [f"{name.removesuffix('_id')}:{fields[name]}" for name in _OWNERS if fields.get(name)]
    return _exported(
        where,
        origin=f"mem0:{fields.get('id')}",
        given_id=fields.get("id"),
        content=content,
        tags=categories if isinstance(categories, list) else [],
        entities=owners,
        metadata={"mem0": metadata} if isinstance(metadata, dict) and metadata else None,
        created_at=fields.get("created_at"),
        expires_at=fields.get("expiration_date"),
    )


def from_langgraph(element: Mapping[str, Any], where: Where) -> dict[str, Any]:
    """An item of LangGraph's store: as its API gives it, or a row of its table `store`.

    The text is the item's `text`, `content`, `memory`, `data` or `summary`; of an item without
    these the whole value as JSON. Namespaces become tags.

    Raises:
        Unreadable: it has no key or no value.
    """
    path = element.get("namespace", element.get("prefix"))
    parts = path.split(".") if isinstance(path, str) else path
    key, value = element.get("key"), element.get("value")
    if not isinstance(parts, list) or not _is_text(key) or value is None:
        raise Unreadable(f"an item without namespace, key or value: {key}")
    text, rest = _text_of(value)
    about: dict[str, Any] = {"namespace": parts, "key": key}
    if rest:
        about["value"] = rest
    return _exported(
        where,
        origin="langgraph:" + json.dumps([*parts, key]),
        given_id=None,
        content=text,
        tags=[str(part) for part in parts],
        entities=[],
        metadata={"langgraph": about},
        created_at=element.get("created_at"),
        expires_at=element.get("expires_at"),
    )


LAYOUTS: Final[Mapping[str, Callable[[Mapping[str, Any], Where], dict[str, Any]]]] = {
    "mem0": from_mem0,
    "langgraph": from_langgraph,
}


def _exported(
    where: Where,
    *,
    origin: str,
    given_id: object,
    content: str,
    tags: Iterable[object],
    entities: Iterable[str],
    metadata: dict[str, Any] | None,
    created_at: object,
    expires_at: object,
) -> dict[str, Any]:
    """An element of an export. A repeat gives the same id, so that it is stored once."""
    return {
        "id": str(as_id(given_id) or _made_id(origin)),
        "content": content,
        "scope": where.scope,
        "namespace": "general",
        "created_at": _time(created_at),
        "workspace_name": where.workspace,
        # Teams hang on the named workspace's parent, as in exports without this field.
        "memory_namespace": "",
        "tags": _labels(tags, MAX_TAG_BYTES),
        "entities": _labels(entities, MAX_ENTITY_BYTES),
        "metadata": metadata,
        "expires_at": _time(expires_at),
    }


def _text_of(value: object) -> tuple[str, object]:
    """The text of an item's value, and what else it holds."""
    if isinstance(value, str):
        return value, None
    if isinstance(value, dict):
        for name in _TEXTS:
            if _is_text(value.get(name)):
                return value[name], {k: v for k, v in value.items() if k != name}
    return json.dumps(value, ensure_ascii=False, separators=_SEPARATORS), None


def _labels(given: Iterable[object], most_bytes: int) -> list[str]:
    """Those that can be labels, each once."""
    texts = (each.strip() for each in given if isinstance(each, str))
    fit = (each for each in texts if 0 < len(each.encode(errors="replace")) <= most_bytes)
    return list(dict.fromkeys(fit))[:MAX_LABELS]


def _time(value: object) -> str | None:
    """A time as exports write it; None for what is none."""
    if not isinstance(value, str):
        return None
    text = value.strip().replace(" ", "T", 1)
    for end in ("", "Z", ":00", "T00:00:00Z"):
        try:
            return as_text(as_time(text + end))
        except ValueError:
            continue
    return None


def _made_id(origin: str) -> UUID:
    return uuid5(NAMESPACE_URL, origin)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _lines(text: str) -> Iterator[tuple[int, str]]:
    return ((n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip())


def _line(number: int, line: str) -> object:
    try:
        return json.loads(line)
    except ValueError:
        raise Unreadable(f"line {number} is not JSON") from None
