"""Vectors of texts by the model `local`, made once and kept beside the corpus."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from benchmarks.memory_sources import directory
from molecule_grpc.memory.embedding.engines import load
from molecule_grpc.memory.embedding.models import LOCAL_MODELS

_AT_ONCE = 16


def vectors_of(texts: Sequence[str], questions: Sequence[str]) -> dict[str, list[float]]:
    """A vector for each text and question: of a long text, its first window's."""
    key = hashlib.sha256(json.dumps([texts, questions]).encode()).hexdigest()[:16]
    path = directory() / f"vectors-{key}.json"
    if not path.exists():
        engine = load(LOCAL_MODELS["local"])
        found: dict[str, list[float]] = {}
        for each, asking in ((texts, False), (questions, True)):
            for begin in range(0, len(each), _AT_ONCE):
                part = each[begin : begin + _AT_ONCE]
                pieces = [engine.pieces(text, question=asking)[0] for text in part]
                made = engine.vectors(pieces, question=asking)
                found |= {text: row.tolist() for text, row in zip(part, made, strict=True)}
        path.write_text(json.dumps(found))
    kept: dict[str, list[float]] = json.loads(path.read_text())
    return kept
