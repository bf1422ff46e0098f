"""Why a memory ranks where it ranks, in numbers and in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from molecule_grpc.memory.search.plan import Ranked
from molecule_grpc.memory.search_values import Explanation
from molecule_grpc.memory.values import Access, MemoryRow


def explanation(
    access: Access, row: MemoryRow, hit: Ranked | None, matched: Sequence[str], now: datetime
) -> Explanation:
    """Of a hit; of a row in a list without scores where `hit` is None."""
    space = access.of(row.namespace)
    return Explanation(
        semantic=None if hit is None else hit.cosine,
        lexical=None if hit is None else hit.share,
        matched_words=tuple(matched),
        exact=hit is not None and hit.exact,
        age_seconds=max(0.0, (now - row.created_at).total_seconds()),
        recency_factor=1.0 if hit is None else hit.recency,
        namespace_rule="" if space is None else str(space.rule),
        reason=_reason(row, hit, matched),
    )


def _reason(row: MemoryRow, hit: Ranked | None, matched: Sequence[str]) -> str:
    if hit is None:
        return "pinned, then the newest first" if row.pinned else "the newest first"
    parts = []
    if hit.exact:
        parts.append("has the identifier letter by letter")
    if hit.cosine is not None:
        parts.append(f"its meaning is at a cosine of {hit.cosine:.2f} from the query")
    if hit.share is not None:
        words = ", ".join(matched)
        parts.append(f"has {hit.share:.0%} of what the words could give: {words}")
    if hit.cosine is None and row.embed_state == "pending":
        parts.append("its meaning is not read yet")
    if hit.recency < 1:
        parts.append(f"age leaves {hit.recency:.0%} of the score")
    return "; ".join(parts)
