"""What secrets look like: rules that `redaction` applies in their order."""

from __future__ import annotations

import base64
import binascii
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from molecule_grpc.memory import vendor_tokens

# What surrounds a rule's match that shall stay is in group `kept` (in front) or outside the match.
# Each pattern takes all of `[A-Za-z0-9_-]` that follows, and at most 512 characters where one could
# begin within another: so no rule finds in its own output what it did not find before, and the time
# is linear in the text's length.
Judge = Callable[[re.Match[str]], bool]


class Rule(NamedTuple):
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


def _prefixed(label: str, prefix: str, least: int, run: str = _RUN, hint: str = "") -> Rule:
    """Tokens that a vendor gave a prefix."""
    pattern = rf"(?<![A-Za-z0-9])(?:{prefix}){run}{{{least},}}{_RUN}*"
    return Rule(label, (hint or prefix.lower(),), re.compile(pattern))


def _assigned(label: str, name: str, *hints: str) -> Rule:
    """A value behind a name in an assignment, a URL's query, JSON or YAML."""
    pattern = (
        rf"(?P<kept>(?<![A-Za-z0-9_-])(?:[A-Za-z0-9_-]{{0,64}}[_-])?{name}"
        rf"[\"']?[ \t]{{0,8}}(?P<sign>=|:(?![:=]))[ \t]{{0,8}}(?P<quote>[\"'`]?)){_NOT_DONE}"
        r"(?P<value>[^\s\"'`,;&<>(){}\[\]]{3,512}[^\s\"'`,;&<>(){}\[\]]*)(?P<next>(?=[(\[{]))?"
    )
    return Rule(label, hints, re.compile(pattern, re.IGNORECASE), _is_value)


_WORDS = re.compile(r"[A-Za-z_.:/@-]*")
_PLACEHOLDER = re.compile(
    r"(?:your|my|example|change|changeme|some|the|insert|enter|x{3,}|none|null|true|false|undefined)"
    r"(?![a-z0-9])|\.\.\.|\*\*\*|\$|%|(?:self|os|env|process|settings|config|request|args|options)\.",
    re.IGNORECASE,
)
# What a shell or a template puts in: $TOKEN, ${token}, {token}, %TOKEN%, <token>.
_VARIABLE = re.compile(
    r"\$?\{{1,2}[^{}]{0,64}\}{1,2}|\$(?:[A-Z_][A-Z0-9_]*|[a-z_]+)|%[A-Za-z_]+%?|<[^<>]{0,64}>|…|\.\.\.\*?"
)
# s3-secret-access-key, Lou...bzg==
_NAMED_SO = re.compile(r"[-_](?:key|token|secret|password|id)$|\.\.\.|…")
_SPELLED = re.compile(r"[A-Z0-9_]*_(?:API_KEY|TOKEN|SECRET)[\"']?\s*=", re.ASCII)


def _is_value(match: re.Match[str]) -> bool:
    """Whether what follows a name is a value, and neither code, a placeholder nor prose."""
    value = match["value"]
    if match["next"] is not None or _PLACEHOLDER.match(value) or _NAMED_SO.search(value):
        return False
    if _SPELLED.search(match["kept"]):
        # NAME_TOKEN=value, as a shell or an environment has it, in capitals.
        return len(value) >= 4
    words_alone = _WORDS.fullmatch(value) is not None
    return len(value) >= 6 and not words_alone and not value.isdigit()


# "The API key is X", "password: X": as people write to one another.
_TOLD = re.compile(
    r"(?P<kept>(?<![A-Za-z0-9_-])(?:(?:api|access|secret|private|master|service)[ _-]key"
    r"|(?:[a-z]{1,16}[ _-])?token|password|passphrase|credentials?)"
    r"(?:[ \t](?:for|of|to|on|in|at)(?:[ \t][A-Za-z0-9_.-]{1,32}){1,3})?"
    r"[\"']?(?:[ \t]{1,4}(?:is|was|are)(?:[ \t]now)?|[ \t]{0,4}(?:[:=]|->|=>))[ \t]{1,4}[\"'`]?)"
    + _NOT_DONE
    + r"(?P<value>[^\s\"'`,;&<>(){}\[\]]{8,512}[^\s\"'`,;&<>(){}\[\]]*)",
    re.IGNORECASE,
)


def _is_told(match: re.Match[str]) -> bool:
    """Whether the value in a sentence is no word, number, path, address or variable."""
    value = match["value"].rstrip(".:!?")
    if "/" in value or _PLACEHOLDER.match(value) or _VARIABLE.fullmatch(value):
        return False
    if _COMPOUND.fullmatch(value):
        return False
    return any(map(str.isdigit, value)) and sum(map(str.isalpha, value)) >= 2


# base64-encoded, utf-8, sha256
_COMPOUND = re.compile(r"[A-Za-z]{1,16}-?[0-9]{0,3}(?:-[A-Za-z]{1,16}){0,4}")


_HEX = re.compile(r"[0-9A-Fa-f]+")
_NO_SECRET = re.compile(
    # Checksums of packages, keys that are public, pictures.
    r"sha(?:1|256|384|512)-|AAAA[BCE][23]|iVBORw0KGgo|/9j/|R0lGOD|UklGR|PHN2Zy|Qk0"
)
# A folder or a file: a word, a word with a year or a version, a digest, a date.
_IN_A_PATH = re.compile(r"[0-9A-Fa-f]*|[A-Za-z_-]*[0-9]{0,4}[A-Za-z_-]{0,8}")
_LEAST_BITS = 3.5
# Of neighbours of another kind: random texts have 0.64, words in camel case 0.3.
_LEAST_CHANGES = 0.42


def _is_random(match: re.Match[str]) -> bool:
    """Whether a long run looks drawn at random: no path, digest, picture or name."""
    run = match[0].rstrip("=")
    if _HEX.fullmatch(run) or _NO_SECRET.match(run) or _behind(match, ";base64,"):
        return False
    if "/" in run and all(map(_IN_A_PATH.fullmatch, run.split("/"))):
        return False
    kinds = ["A" if c.isupper() else "a" if c.islower() else "0" if c.isdigit() else c for c in run]
    # A name in camel case may end in a number.
    if not {"A", "a", "0"} <= set(kinds) or kinds.count("0") < 2:
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
    if _VARIABLE.fullmatch(token):
        return False
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
        # The scheme twice: a match that begins with the first would end before the token.
        rf"(?<![A-Za-z0-9_-]){scheme}[ \t]{{1,8}})(?!{scheme}[ \t]){_NOT_DONE}(?P<value>{run})",
        re.IGNORECASE,
    )


# Other schemes than Bearer and Basic, none, and a user with a password for curl.
_HEADER = re.compile(
    r"(?P<kept>(?<![A-Za-z0-9_-])authorization[\"']?[ \t]{0,4}[:=][ \t]{0,4}[\"']?"
    rf"(?:(?:token|apikey|api-token|key)[ \t]{{1,4}})?){_NOT_DONE}"
    r"(?P<value>[A-Za-z0-9._~+/=-]{16,})",
    re.IGNORECASE,
)

_CURL_USER = re.compile(
    r"(?P<kept>(?<![A-Za-z0-9_-])curl[ \t][^\n]{0,256}?(?<![A-Za-z0-9_-])(?:-u|--user)"
    r"[ \t=]{1,4}[\"']?"
    rf"[^\s:\"'\[\]]{{1,64}}:){_NOT_DONE}(?![$%{{<])[^\s\"'\[\]]{{3,512}}[^\s\"'\[\]]*"
)


def _is_header(match: re.Match[str]) -> bool:
    """Whether the value of a header is a token rather than a word."""
    return any(map(str.isdigit, match["value"]))


RULES: tuple[Rule, ...] = (
    Rule(
        "CONNECTION_URL",
        ("://",),
        re.compile(
            r"(?P<kept>(?:postgres(?:ql)?|mysql|mariadb|mongodb|rediss?|amqps?|mssql|clickhouse"
            r"|https?|ftps?|smtps?|ldaps?)(?:\+[a-z0-9]{1,20})?://)"
            + _NOT_DONE
            # A password may hold single slashes; two begin another URL, so that no attempt looks
            # beyond where the next one begins.
            + r"[^\s:@/\"'<>]{0,256}+:(?![/\s]|\d{1,5}[/?#])"
            r"(?=[^\s@])[^\s@/\"'<>]{0,256}+(?:/(?!/)[^\s@/\"'<>]{0,256}+){0,4}+"
            r"(?:@[^\s@/:\"'<>]{1,256}+(?=@))?(?=@)",
            re.IGNORECASE,
        ),
        lambda match: not match[0].endswith((":password", ":pass", ":PASSWORD")),
    ),
    Rule(
        "JWT",
        ("ey",),
        re.compile(
            rf"(?<![A-Za-z0-9])ey[A-Za-z0-9]{_RUN}{{8,}}\.{_RUN}{{8,}}\.{_RUN}{{8,}}"
            rf"|(?<![A-Za-z0-9])ey[A-Za-z0-9]{_RUN}{{8,}}\.ey{_RUN}{{8,}}\.?"
        ),
    ),
    _prefixed("SK_TOKEN", "sk-", 16),
    _prefixed("STRIPE_KEY", "[sr]k_(?:live|prod|test)_", 10, hint="k_"),
    _prefixed("CTX7_TOKEN", "ctx7_", 1, "[A-Za-z0-9]"),
    _prefixed("GITHUB_TOKEN", "github_pat_", 16),
    _prefixed("GITHUB_TOKEN", "gh[pousr]_", 16, "[A-Za-z0-9]", hint="gh"),
    _prefixed("GITLAB_TOKEN", "glpat-", 16),
    _prefixed("VC_TOKEN", "vc_", 16, "[A-Za-z0-9]"),
    _prefixed("AWS_KEY_ID", "A(?:[KSB]IA|CCA|3T[A-Z0-9])", 16, "[A-Z0-9]", hint="a"),
    _prefixed("PPLX_TOKEN", "pplx-", 20),
    _prefixed("SLACK_TOKEN", r"xox[a-z](?:.?xox[a-z])?-(?:[0-9]-)?", 10, hint="xox"),
    _prefixed("SLACK_TOKEN", "xapp-", 10),
    _prefixed("SLACK_TOKEN", "xoxd-", 10, r"[A-Za-z0-9_+/%\\-]"),
    _prefixed("GOOGLE_KEY", "AIza", 30, hint="aiza"),
    Rule("VENDOR_KEY", vendor_tokens.HINTS, vendor_tokens.PATTERN, vendor_tokens.is_drawn),
    Rule("BASIC_AUTH", ("curl",), _CURL_USER),
    Rule("BEARER_TOKEN", ("bearer",), _authorization("bearer", r"[^\s\"'`,;<>]+"), _is_bearer),
    Rule("BEARER_TOKEN", ("authorization",), _HEADER, _is_header),
    Rule("BASIC_AUTH", ("basic",), _authorization("basic", r"[A-Za-z0-9+/_-]{4,}=*"), _is_basic),
    _assigned(
        "API_KEY", r"[a-z]{0,20}(?:api[_-]?key|apikey|access[_-]?key|account[_-]?key)", "key"
    ),
    _assigned("TOKEN", r"token", "token"),
    _assigned("SECRET", r"secret(?:[_-](?:access[_-])?key)?", "secret"),
    _assigned(
        "PASSWORD", r"[a-z]{0,20}(?:password|passwd|passphrase|pwd)", "passw", "passp", "pwd"
    ),
    Rule("PASSWORD", ("pass", "key", "token", "credential"), _TOLD, _is_told),
    Rule(
        "KEY",
        ("key", "token", "secret", "password"),
        re.compile(
            r"(?P<kept>(?<![A-Za-z0-9])(?:key|token|secret|password)[ \t]{0,8}=[ \t]{0,8}[\"']?)"
            r"[A-Za-z0-9+/_-]{40,}=*",
            re.IGNORECASE,
        ),
    ),
    Rule(
        "BASE64_BLOB",
        ("",),
        re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{40,}={0,2}"),
        _is_random,
    ),
)
