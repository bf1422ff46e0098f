"""Exchanges that every server of the contract answers alike, with any capabilities."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

ANY_TEXT: Final = "<text>"
"""Stands for any text that is not empty."""


class Golden(NamedTuple):
    """A request and its answer.

    Args:
        path: `{a}` and `{b}` stand for two namespaces that nobody else uses.
        answer: fields of the answer; others may be there. None: the body does not matter.
    """

    name: str
    method: str
    path: str
    body: dict[str, Any] | None
    status: int
    answer: dict[str, Any] | None


GOLDEN: Final = (
    Golden("health", "GET", "/v1/health", None, 200, {"status": "ok"}),
    Golden(
        "namespace upsert",
        "PUT",
        "/v1/namespaces/{a}",
        {"kind": "workspace"},
        200,
        {"name": "{a}", "kind": "workspace"},
    ),
    Golden(
        "minimal write",
        "POST",
        "/v1/namespaces/{a}/memories",
        {"content": "the sky is blue", "kind": "fact", "source": "agent"},
        201,
        {"id": ANY_TEXT, "namespace": "{a}"},
    ),
    Golden(
        "multi-namespace search",
        "POST",
        "/v1/search",
        {"namespaces": ["{a}", "{b}"], "limit": 20},
        200,
        {
            "memories": [
                {
                    "id": ANY_TEXT,
                    "namespace": "{a}",
                    "content": "the sky is blue",
                    "kind": "fact",
                    "source": "agent",
                }
            ]
        },
    ),
    Golden(
        "not found",
        "DELETE",
        "/v1/memories/00000000-0000-4000-8000-000000000000",
        {"requested_by_namespace": "{a}"},
        404,
        None,
    ),
)


def filled(value: Any, names: dict[str, str]) -> Any:
    """A request or an answer with the namespaces in place of their marks."""
    if isinstance(value, str):
        for mark, name in names.items():
            value = value.replace(f"{{{mark}}}", name)
        return value
    if isinstance(value, list):
        return [filled(each, names) for each in value]
    if isinstance(value, dict):
        return {key: filled(each, names) for key, each in value.items()}
    return value


def difference(expected: Any, answer: Any, where: str = "answer") -> str | None:
    """How an answer differs from what was expected; None if it does not."""
    if expected == ANY_TEXT:
        return None if isinstance(answer, str) and answer else f"{where} is no text"
    if isinstance(expected, dict):
        if not isinstance(answer, dict):
            return f"{where} is no object"
        differences = (
            difference(each, answer.get(key), f"{where}.{key}") for key, each in expected.items()
        )
        return next(filter(None, differences), None)
    if isinstance(expected, list):
        if not isinstance(answer, list) or len(answer) != len(expected):
            return f"{where} does not have {len(expected)} elements"
        pairs = zip(expected, answer, strict=True)
        differences = (
            difference(one, other, f"{where}[{n}]") for n, (one, other) in enumerate(pairs)
        )
        return next(filter(None, differences), None)
    return None if expected == answer else f"{where} is {answer!r} instead of {expected!r}"
