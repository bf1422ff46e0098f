"""Secrets drawn from the rules of a released scanner, and confirmed by that scanner."""

from __future__ import annotations

import functools
import importlib
import random
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from kingfisher_sdk import Rules, Scanner

# Python's own parser of patterns, which has no types.
sre: Any = importlib.import_module("re._constants")
parser: Any = importlib.import_module("re._parser")

# Longest repetition that a pattern without an upper bound is given.
_MOST = 24
_ATTEMPTS = 12
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_CLASSES = {
    sre.CATEGORY_DIGIT: "0123456789",
    sre.CATEGORY_WORD: _LETTERS + "0123456789_",
    sre.CATEGORY_SPACE: " ",
    sre.CATEGORY_NOT_SPACE: _LETTERS + "0123456789",
    sre.CATEGORY_NOT_WORD: " ",
    sre.CATEGORY_NOT_DIGIT: _LETTERS,
}
_PRINTABLE = [chr(code) for code in range(33, 127)]


class Positive(NamedTuple):
    """A text with a secret that the scanner finds."""

    rule: str
    text: str
    secret: str


@functools.cache
def scanner() -> Scanner:
    """The scanner with all of its rules; loading takes about four seconds."""
    return Scanner(Rules(confidence="low"), base64=False)


def positives(each: int = 3, seed: int = 1) -> Iterator[Positive]:
    """Up to `each` texts a rule. Rules whose pattern Python cannot read give none."""
    for rule in sorted(scanner().rules.metadata(), key=lambda rule: str(rule["id"])):
        detail = scanner().rules.detail(rule["id"])
        draw = random.Random(f"{seed} {rule['id']}")
        tree = _tree(rule["id"])
        beside = [_tree(each["rule_id"]) for each in detail["depends_on_rule"]]
        if tree is None or None in beside:
            continue
        found = 0
        for _ in range(_ATTEMPTS * each):
            parts = [generated(each, draw) for each in (tree, *beside) if each is not None]
            text = f"see {' and '.join(parts)} below"
            secret = _confirmed(rule["id"], text)
            if secret is not None:
                found += 1
                yield Positive(rule["id"], text, secret)
                if found == each:
                    break


@functools.cache
def _tree(rule: str) -> Sequence[Any] | None:
    """The parsed pattern of a rule; None if Python cannot read it."""
    detail = scanner().rules.detail(rule)
    pattern = detail["detection_regex"] or detail["pattern"]
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        try:
            return list(parser.parse(_spelled_for_python(pattern)))
        except re.error:
            return None


def _spelled_for_python(pattern: str) -> str:
    """A pattern of Rust: flags within count from where they stand, and `\\z` is the end."""
    start = re.match(r"(?:\(\?[a-z]+\))*", pattern)
    assert start is not None
    rest = re.sub(r"\(\?[a-z]+\)", "", pattern[start.end() :])
    return start[0] + rest.replace(r"\z", r"\Z")


def _confirmed(rule: str, text: str) -> str | None:
    for finding in scanner().scan(text):
        if finding.visible and finding.rule_id == rule:
            return str(finding.secret)
    return None


def generated(tree: Sequence[Any], draw: random.Random) -> str:
    """A text that a parsed pattern is likely to match; what looks around is not obeyed."""
    groups: dict[int, str] = {}
    return "".join(_piece(what, value, draw, groups) for what, value in tree)


def _piece(what: Any, value: Any, draw: random.Random, groups: dict[int, str]) -> str:
    def every(tree: Any) -> str:
        return "".join(_piece(what, value, draw, groups) for what, value in tree)

    text = ""
    match what:
        case sre.LITERAL:
            text = chr(value)
        case sre.NOT_LITERAL | sre.ANY:
            text = draw.choice([sign for sign in _LETTERS if ord(sign) != value])
        case sre.IN:
            text = draw.choice(_signs(value))
        case sre.BRANCH:
            text = every(draw.choice(value[1]))
        case sre.SUBPATTERN:
            text = groups[value[0]] = every(value[3])
        case sre.ATOMIC_GROUP:
            text = every(value)
        case sre.MAX_REPEAT | sre.MIN_REPEAT | sre.POSSESSIVE_REPEAT:
            least, most, tree = value
            count = draw.randint(least, max(least, min(most, _MOST)))
            text = "".join(every(tree) for _ in range(count))
        case sre.GROUPREF:
            text = groups.get(value, "")
    return text


def _signs(members: Sequence[tuple[Any, Any]]) -> list[str]:
    """The signs of a class; of a negated class the letters and digits that are left, if any."""
    signs: list[str] = []
    for what, value in members:
        match what:
            case sre.LITERAL:
                signs.append(chr(value))
            case sre.RANGE:
                signs += [chr(code) for code in range(value[0], min(value[1], 126) + 1)]
            case sre.CATEGORY:
                signs += _CLASSES[value]
    if members[0][0] is sre.NEGATE:
        return [sign for sign in _LETTERS + "0123456789" if sign not in signs] or _PRINTABLE
    return signs
