"""How sure it is that the first hit answers the query."""

from __future__ import annotations

from typing import Final

from molecule_grpc.memory.search.plan import Ranked

# Scores of a meaning and words together, of the model `local`; of words alone the share of BM25.
_HYBRID: Final = (0.75, 0.5)
_LEXICAL: Final = (0.35, 0.15)


def confidence(hits: list[Ranked], mode: str) -> str:
    """`high`, `medium`, `low`, or `none` without hits.

    A hint, no promise: with the answer taken away, other texts reach the same scores now and then.
    """
    if not hits:
        return "none"
    top = hits[0]
    if top.exact:
        return "high"
    score = top.score / 1_000_000 / (top.recency or 1.0)
    high, medium = _LEXICAL if mode == "lexical" else _HYBRID
    if score >= high:
        return "high"
    return "medium" if score >= medium else "low"
