"""How sure it is that the first hit answers the query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from molecule_grpc.memory.embedding.port import EmbeddingModel
from molecule_grpc.memory.search.plan import Ranked

# Shares of BM25, where words alone are compared or nobody measured the model.
_LEXICAL: Final = (0.35, 0.15)
_MILLION: Final = 1_000_000


def confidence(hits: Sequence[Ranked], model: EmbeddingModel | None) -> str:
    """`high`, `medium`, `low`, or `none` without hits that have scores.

    A hint, no promise: with the answer taken away, other texts reach the same scores now and then.

    Args:
        model: the one that compared meanings; None where words alone were compared.
    """
    if not hits:
        return "none"
    top = hits[0]
    if top.exact:
        return "high"
    if model is not None and model.sure is None:
        # Words alone tell, and they are not enough to be sure of.
        return "medium" if (top.share or 0.0) >= _LEXICAL[0] else "low"
    high, medium = _LEXICAL if model is None or model.sure is None else model.sure
    score = top.score / _MILLION / (top.recency or 1.0)
    if score >= high:
        return "high"
    return "medium" if score >= medium else "low"
