"""Secrets in texts, replaced by `[REDACTED:<label>]` before anything is stored or embedded."""

from __future__ import annotations

import json
import re
from collections import Counter

from molecule_grpc.memory.secret_rules import RULES, Rule

_KEY_MARK = re.compile(
    r"-----(?P<what>BEGIN|END) (?P<kind>[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?)-----"
)
_KEY_PIECE = re.compile(r"[A-Za-z0-9+/]{16}")
_KEY_REST = re.compile(r"(?:(?:\s|\\r|\\n)*[A-Za-z0-9+/=]{16,})*")


def redact(text: str) -> tuple[str, dict[str, int]]:
    """A text without secrets, and how many were replaced, by label. The secrets go nowhere else.

    Linear in the text's length, and idempotent: what was replaced is not replaced again.
    """
    counts: Counter[str] = Counter()
    text = _without_private_keys(text, counts)
    lowered = text.lower()
    for rule in RULES:
        if any(hint in lowered for hint in rule.hints):
            text = _applied(rule, text, counts)
    return text, dict(counts)


def redact_json(text: str) -> tuple[str, dict[str, int]]:
    """JSON text whose names and texts hold no secrets, see `redact_data`. The text itself if none.

    Raises:
        ValueError: it is no JSON.
        RecursionError: it is nested some hundreds deep.
    """
    data, counts = redact_data(json.loads(text))
    if not counts:
        return text, counts
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")), counts


def redact_data(data: object) -> tuple[object, dict[str, int]]:
    """Parsed JSON whose names and texts hold no secrets; what a telling name says is one, too.

    Raises:
        RecursionError: the data is nested some hundreds deep.
    """
    counts: Counter[str] = Counter()
    return _cleaned(data, "", counts), dict(counts)


def _cleaned(data: object, name: str, counts: Counter[str]) -> object:
    if isinstance(data, str):
        clean, found = redact(data)
        if not found and name:
            clean, found = _named(name, data)
        counts.update(found)
        return clean
    if isinstance(data, list):
        return [_cleaned(each, name, counts) for each in data]
    if isinstance(data, dict):
        cleaned: dict[str, object] = {}
        for key, each in data.items():
            clean, found = redact(key)
            counts.update(found)
            cleaned[clean] = _cleaned(each, key, counts)
        return cleaned
    return data


_ONE_WORD = re.compile(r"\S+")


def _named(name: str, text: str) -> tuple[str, dict[str, int]]:
    """A text that has a name, as if both stood in an assignment."""
    if not _ONE_WORD.fullmatch(text) or len(name) > 64:
        return text, {}
    front = f"{name}="
    clean, found = redact(front + text)
    return (clean.removeprefix(front), found) if clean.startswith(front) else (text, {})


def _applied(rule: Rule, text: str, counts: Counter[str]) -> str:
    mark = f"[REDACTED:{rule.label}]"

    def replaced(match: re.Match[str]) -> str:
        if rule.judge is not None and not rule.judge(match):
            return match[0]
        counts[rule.label] += 1
        return match.groupdict().get("kept", "") + mark

    return rule.pattern.sub(replaced, text)


def _without_private_keys(text: str, counts: Counter[str]) -> str:
    """A text without private keys; of one that was cut off, what there is."""
    if "PRIVATE KEY" not in text:
        return text
    pieces, done, begun = [], 0, -1
    for mark in [*_KEY_MARK.finditer(text), None]:
        if mark is not None and mark["what"] == "BEGIN" and begun < 0:
            begun, body = mark.start(), mark.end()
            continue
        if begun < 0:
            continue
        ends_here = mark is not None and mark["what"] == "END"
        rest = _KEY_REST.match(text, body)
        end = mark.end() if mark is not None and ends_here else rest.end() if rest else body
        if end > body and _KEY_PIECE.search(text, body, end):
            pieces += [text[done:begun], "[REDACTED:PRIVATE_KEY]"]
            counts["PRIVATE_KEY"] += 1
            done = end
        begun = -1
        if mark is not None and not ends_here:
            begun, body = mark.start(), mark.end()
    return "".join([*pieces, text[done:]])
