"""Secrets in texts, replaced by `[REDACTED:<label>]` before anything is stored or embedded."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator

from molecule_grpc.kernel.slices import Slices
from molecule_grpc.memory.secret_rules import RULES, Rule

_KEY_MARK = re.compile(
    r"-----(?P<what>BEGIN|END) (?P<kind>[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?)-----"
)
_KEY_PIECE = re.compile(r"[A-Za-z0-9+/]{16}")
_KEY_REST = re.compile(
    r"(?:(?:\s|\\r|\\n)*[A-Za-z0-9+/=]{16,})*"
    # A last line that is cut off; a word has no digit or sign.
    r"(?:(?:\s|\\r|\\n)+(?=[A-Za-z]*[0-9+/=])[A-Za-z0-9+/=]{1,15}(?=\s|\Z))?"
)
# Overrides and isolates of writing direction show letters in another order than they are read.
_DIRECTIONS = re.compile("[\u202a-\u202e\u2066-\u2069]")


def without_directions(text: str) -> str:
    """A text whose letters are read in the order in which they are shown.

    First of all: a direction within a secret would hide it from every rule.
    """
    return text if text.isascii() else _DIRECTIONS.sub("", text)


def redact(text: str) -> tuple[str, dict[str, int]]:
    """A text without secrets, and how many were replaced, by label. The secrets go nowhere else.

    Changes of writing direction are taken out, too. Linear in the text's length, and idempotent:
    what was replaced is not replaced again.
    """
    counts: Counter[str] = Counter()
    for step in _steps(text, counts):
        text = step
    return text, dict(counts)


async def redact_in_slices(text: str) -> tuple[str, dict[str, int]]:
    """Like `redact`, in slices of about a millisecond: 100 kB take some 50 of them."""
    counts: Counter[str] = Counter()
    async for step in Slices().each(_steps(text, counts)):
        text = step
    return text, dict(counts)


def _steps(text: str, counts: Counter[str]) -> Iterator[str]:
    """The text after each rule."""
    text = _without_private_keys(without_directions(text), counts)
    lowered = text.lower()
    for rule in RULES:
        if any(hint in lowered for hint in rule.hints):
            text = _applied(rule, text, counts)
            yield text
    yield text


def redact_json(text: str) -> tuple[str, dict[str, int]]:
    """JSON text whose names and texts hold no secrets, see `redact_data`. The text itself if none.

    Raises:
        ValueError: it is no JSON.
        RecursionError: it is nested some hundreds deep.
    """
    data = json.loads(text)
    clean, counts = redact_data(data)
    return (text if clean is data else _printed(clean)), counts


async def redact_json_in_slices(text: str) -> tuple[str, dict[str, int]]:
    """Like `redact_json`, in slices but for reading the JSON: 3 ms for 256 KiB."""
    data = json.loads(text)
    texts = _texts_of(data)
    clean, counts = await redact_in_slices(_BETWEEN.join(texts))
    cleaned = _put_back(data, texts, clean, counts)
    return (text if cleaned is data else _printed(cleaned)), counts


def redact_data(data: object) -> tuple[object, dict[str, int]]:
    """Replace secrets in names and texts of parsed JSON, also the text of a name like `password`.

    The same object if there are none.

    Raises:
        RecursionError: the data is nested some hundreds deep.
    """
    texts = _texts_of(data)
    # Text by text it would take 10 us each, of which 256 KiB may hold 30,000.
    clean, counts = redact(_BETWEEN.join(texts))
    return _put_back(data, texts, clean, counts), counts


def _printed(data: object) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def _texts_of(data: object) -> list[str]:
    texts: dict[str, None] = {}
    _collect(data, "", texts)
    return list(texts)


def _put_back(data: object, texts: list[str], clean: str, counts: dict[str, int]) -> object:
    """The data with what became of its texts, which were cleaned in a row."""
    if not counts and clean == _BETWEEN.join(texts):
        return data
    parts = clean.split(_BETWEEN)
    if len(parts) != len(texts):  # something reached from one text into another
        counts.clear()
        parts = [_one(text, counts) for text in texts]
    return _replaced(data, "", dict(zip(texts, parts, strict=True)))


# In no text of JSON that is stored, so that texts can stand in a row.
_NUL = "\x00"
_BETWEEN = f"\n{_NUL}\n"
_SHORTEST = 8
_ONE_WORD = re.compile(r"\S+")
_LONGEST_NAME = 64


def _spoken(name: str, text: str) -> str:
    """A text as the rules see it: `name=text` for a text of one word with a name, else the text."""
    named = name and len(name) <= _LONGEST_NAME and _ONE_WORD.fullmatch(text)
    return f"{name}={text}" if named else text


def _collect(data: object, name: str, texts: dict[str, None]) -> None:
    """Put all names and texts of some data, as they are spoken, into a dictionary."""
    if isinstance(data, str):
        texts[_spoken(name, data)] = None
    elif isinstance(data, list):
        for each in data:
            _collect(each, name, texts)
    elif isinstance(data, dict):
        for key, each in data.items():
            texts[key] = None
            _collect(each, key, texts)


def _one(text: str, counts: dict[str, int]) -> str:
    if len(text) < _SHORTEST:
        return text
    clean, found = redact(text)
    for label, count in found.items():
        counts[label] = counts.get(label, 0) + count
    return clean


def _replaced(data: object, name: str, texts: dict[str, str]) -> object:
    """The same data with what became of each text."""
    if isinstance(data, str):
        spoken = _spoken(name, data)
        clean = texts[spoken]
        if spoken == data:
            return clean
        # Where the name itself was taken for a secret, nothing of the text is certain.
        front = f"{name}="
        return clean.removeprefix(front) if clean.startswith(front) else redact(data)[0]
    if isinstance(data, list):
        return [_replaced(each, name, texts) for each in data]
    if isinstance(data, dict):
        return _named_apart((texts[key], _replaced(each, key, texts)) for key, each in data.items())
    return data


def _named_apart(fields: Iterable[tuple[str, object]]) -> dict[str, object]:
    """An object of these fields; names that have become equal get numbers."""
    made: dict[str, object] = {}
    for name, value in fields:
        apart, number = name, 1
        while apart in made:
            number += 1
            apart = f"{name} {number}"
        made[apart] = value
    return made


def _applied(rule: Rule, text: str, counts: Counter[str]) -> str:
    mark = f"[REDACTED:{rule.label}]"

    def replaced(match: re.Match[str]) -> str:
        if rule.judge is not None and not rule.judge(match):
            return match[0]
        counts[rule.label] += 1
        return match.groupdict().get("kept", "") + mark

    return rule.pattern.sub(replaced, text)


def _without_private_keys(text: str, counts: Counter[str]) -> str:
    """Replace private keys in a text, also the beginning of a key that was cut off."""
    if "PRIVATE KEY" not in text:
        return text
    pieces, done, begun, body = [], 0, -1, 0
    for mark in [*_KEY_MARK.finditer(text), None]:
        if mark is not None and mark["what"] == "BEGIN" and begun < 0:
            begun, body = mark.start(), mark.end()
            continue
        if begun < 0:
            continue
        ends_here = (
            mark is not None
            and mark["what"] == "END"
            and text.find(_NUL, body, mark.start()) < 0  # else it is of another text
        )
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
