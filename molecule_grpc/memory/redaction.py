"""Secrets in texts, replaced by `[REDACTED:<label>]` before anything is stored or embedded."""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

# What surrounds a rule's match that shall stay is in group `kept` (in front) or outside the match.
# Each pattern takes all of `[A-Za-z0-9_-]` that follows, and at most 512 characters where one could
# begin within another: so no rule finds in its own output what it did not find before, and the time
# is linear in the text's length.
Judge = Callable[[re.Match[str]], bool]


class _Rule(NamedTuple):
    """One family of secrets.

    Args:
        hints: a text with none of these, in any case, is left alone.
        pattern: what is replaced; a group `kept` stays in front.
        judge: whether a match is a secret at all.
    """

    label: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    judge: Judge | None = None


_RUN = r"[A-Za-z0-9_-]"
_NOT_DONE = r"(?!\[REDACTED)"


def _prefixed(label: str, prefix: str, least: int, run: str = _RUN, hint: str = "") -> _Rule:
    """Tokens that a vendor gave a prefix."""
    pattern = rf"(?<![A-Za-z0-9])(?:{prefix}){run}{{{least},}}{_RUN}*"
    return _Rule(label, (hint or prefix.lower(),), re.compile(pattern))


def _assigned(label: str, name: str, hint: str) -> _Rule:
    """A value behind a name in an assignment, a URL's query, JSON or YAML."""
    pattern = (
        rf"(?P<kept>(?<![A-Za-z0-9_-])(?:[A-Za-z0-9_-]{{0,64}}[_-])?{name}"
        rf"[\"']?[ \t]{{0,8}}(?P<sign>=|:(?![:=]))[ \t]{{0,8}}(?P<quote>[\"'`]?)){_NOT_DONE}"
        r"(?P<value>[^\s\"'`,;&<>(){}\[\]]{3,512}[^\s\"'`,;&<>(){}\[\]]*)(?P<next>(?=[(\[{]))?"
    )
    return _Rule(label, (hint,), re.compile(pattern, re.IGNORECASE), _is_value)


_WORDS = re.compile(r"[A-Za-z_.:/@-]*")
_PLACEHOLDER = re.compile(
    r"(?:your|my|example|change|some|the|insert|enter|xxx|\.\.\.|\*\*\*|\$|%|none|null|true|false"
    r"|undefined|self\.|os\.|env\.|process\.|settings\.|config\.|request\.|args\.|options\.)",
    re.IGNORECASE,
)
_SPELLED = re.compile(r"[A-Z0-9_]*_(?:API_KEY|TOKEN|SECRET)[\"']?\s*=", re.ASCII)


def _is_value(match: re.Match[str]) -> bool:
    """Whether what follows a name is a value, and neither code, a placeholder nor prose."""
    value = match["value"]
    if match["next"] is not None or _PLACEHOLDER.match(value):
        return False
    if _SPELLED.search(match["kept"]):
        # NAME_TOKEN=value, as a shell or an environment has it, in capitals.
        return len(value) >= 4
    words_alone = _WORDS.fullmatch(value) is not None
    return len(value) >= 6 and not words_alone and not value.isdigit()


_HEX = re.compile(r"[0-9A-Fa-f]+")
_NO_SECRET = re.compile(
    # Checksums of packages, keys that are public, pictures.
    r"sha(?:1|256|384|512)-|AAAA[BCE][23]|iVBORw0KGgo|/9j/|R0lGOD|UklGR|PHN2Zy|Qk0"
)
_LEAST_BITS = 3.5
# Of neighbours of another kind: random texts have 0.64, words in camel case 0.3.
_LEAST_CHANGES = 0.42


def _is_random(match: re.Match[str]) -> bool:
    """Whether a long run looks drawn at random: no path, digest, picture or name."""
    run = match[0].rstrip("=")
    if _HEX.fullmatch(run) or _NO_SECRET.match(run) or _behind(match, ";base64,"):
        return False
    kinds = ["A" if c.isupper() else "a" if c.islower() else "0" if c.isdigit() else c for c in run]
    if not {"A", "a", "0"} <= set(kinds):
        return False
    changes = sum(a != b for a, b in itertools.pairwise(kinds))
    return changes >= _LEAST_CHANGES * len(run) and _bits(run) >= _LEAST_BITS


def _behind(match: re.Match[str], text: str) -> bool:
    return match.string.endswith(text, 0, match.start())


def _bits(text: str) -> float:
    """Bits a character, from the characters' frequencies."""
    counts, length = Counter(text).values(), len(text)
    return -sum(n / length * math.log2(n / length) for n in counts)


def _is_bearer(match: re.Match[str]) -> bool:
    """Whether a word behind `Bearer` is a token: `bearer authentication` is prose."""
    token = match["value"]
    if match["header"] is not None:
        return True
    return len(token) >= 20 or (len(token) >= 6 and _WORDS.fullmatch(token) is None)


def _is_basic(match: re.Match[str]) -> bool:
    """Whether a word behind `Basic` is a name and a password."""
    token = match["value"]
    try:
        return b":" in base64.b64decode(token + "=" * (-len(token) % 4), validate=True)
    except (binascii.Error, ValueError):
        return match["header"] is not None


def _authorization(scheme: str, run: str) -> re.Pattern[str]:
    return re.compile(
        r"(?P<kept>(?P<header>authorization[\"']?[ \t]{0,4}[:=][ \t]{0,4}[\"']?)?"
        rf"(?<![A-Za-z0-9_-]){scheme}[ \t]{{1,8}}){_NOT_DONE}(?P<value>{run})",
        re.IGNORECASE,
    )


_RULES: tuple[_Rule, ...] = (
    _Rule(
        "CONNECTION_URL",
        ("://",),
        re.compile(
            r"(?P<kept>(?:postgres(?:ql)?|mysql|mariadb|mongodb|rediss?|amqps?|mssql|clickhouse"
            r"|https?|ftps?|smtps?|ldaps?)(?:\+[a-z0-9]{1,20})?://)"
            + _NOT_DONE
            + r"[^\s:@/\"'<>]{0,256}:(?![/\s]|\d{1,5}[/?#])[^\s@\"'<>]{1,512}"
            r"(?:@[^\s@/:\"'<>]{1,256})?(?=@)",
            re.IGNORECASE,
        ),
        lambda match: not match[0].endswith((":password", ":pass", ":PASSWORD")),
    ),
    _Rule(
        "JWT",
        ("eyj",),
        re.compile(rf"(?<![A-Za-z0-9])eyJ{_RUN}{{8,}}\.{_RUN}{{8,}}\.{_RUN}{{8,}}"),
    ),
    _prefixed("SK_TOKEN", "sk-", 16),
    _prefixed("STRIPE_KEY", "[sr]k_(?:live|test)_", 16, hint="k_"),
    _prefixed("CTX7_TOKEN", "ctx7_", 1, "[A-Za-z0-9]"),
    _prefixed("GITHUB_TOKEN", "github_pat_", 16),
    _prefixed("GITHUB_TOKEN", "gh[pousr]_", 16, "[A-Za-z0-9]", hint="gh"),
    _prefixed("GITLAB_TOKEN", "glpat-", 16),
    _prefixed("VC_TOKEN", "vc_", 16, "[A-Za-z0-9]"),
    _prefixed("AWS_KEY_ID", "A[KS]IA", 16, "[A-Z0-9]", hint="ia"),
    _prefixed("PPLX_TOKEN", "pplx-", 20),
    _prefixed("SLACK_TOKEN", "xox[abeoprs]-", 10, hint="xox"),
    _prefixed("GOOGLE_KEY", "AIza", 30, hint="aiza"),
    _Rule("BEARER_TOKEN", ("bearer",), _authorization("bearer", r"[^\s\"'`,;<>]+"), _is_bearer),
    _Rule("BASIC_AUTH", ("basic",), _authorization("basic", r"[A-Za-z0-9+/_-]{4,}=*"), _is_basic),
    _assigned("API_KEY", r"(?:api[_-]?key|apikey|access[_-]?key)", "key"),
    _assigned("TOKEN", r"token", "token"),
    _assigned("SECRET", r"secret(?:[_-](?:access[_-])?key)?", "secret"),
    _assigned("PASSWORD", r"(?:password|passwd|passphrase|pwd)", "p"),
    _Rule(
        "KEY",
        ("key", "token", "secret", "password"),
        re.compile(
            r"(?P<kept>(?<![A-Za-z0-9])(?:key|token|secret|password)[ \t]{0,8}=[ \t]{0,8}[\"']?)"
            r"[A-Za-z0-9+/_-]{40,}=*",
            re.IGNORECASE,
        ),
    ),
    _Rule(
        "BASE64_BLOB",
        ("",),
        re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{40,}={0,2}"),
        _is_random,
    ),
)

_KEY_MARK = re.compile(
    r"-----(?P<what>BEGIN|END) (?P<kind>[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?)-----"
)
_KEY_REST = re.compile(r"(?:(?:\s|\\r|\\n)*[A-Za-z0-9+/=]{16,})*")


def redact(text: str) -> tuple[str, dict[str, int]]:
    """A text without secrets, and how many were replaced, by label. The secrets go nowhere else.

    Linear in the text's length, and idempotent: what was replaced is not replaced again.
    """
    counts: Counter[str] = Counter()
    text = _without_private_keys(text, counts)
    lowered = text.lower()
    for rule in _RULES:
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


def _applied(rule: _Rule, text: str, counts: Counter[str]) -> str:
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
        if end > body:
            pieces += [text[done:begun], "[REDACTED:PRIVATE_KEY]"]
            counts["PRIVATE_KEY"] += 1
            done = end
        begun = -1
        if mark is not None and not ends_here:
            begun, body = mark.start(), mark.end()
    return "".join([*pieces, text[done:]])
