"""Texts of memories on their way to agents: behind a header, and unable to forge one."""

from __future__ import annotations

import json
import re
import unicodedata
from uuid import UUID

from molecule_grpc.memory.redaction import without_directions
from molecule_grpc.memory.values import MemoryRow, VersionRow

_CUSTOM = "CUSTOM"
_SCOPES = {"org": "ORG", "team": "TEAM"}
_SCOPES_OF_REST = {"org": "GLOBAL", "team": "TEAM", "workspace": "LOCAL"}

# What a blank character that is no space becomes in a skeleton.
_BLANK = "\0"
_GAP = r"[\s\0]"
_MEMORY = r"M\0*[E3]\0*M\0*[O0]\0*R\0*Y"
# A word with a letter that stands for no Latin one.
_FOREIGN = r"(?!_)(?=[^\s\[\]=]*[^\x00-\x7f])[^\s\[\]=]{4,24}"
_FIELD = r"(?i:id|scope|ns|from)"
# A header as `render_text` writes it, and every spelling that a reader may take for one: any
# `[MEMORY ` in capitals; in other letters, and for a word of another alphabet, only before a field.
_OPENING = re.compile(
    rf"\[{_GAP}*(?={_MEMORY}(?:{_GAP}|\Z)"
    rf"|(?i:{_MEMORY}){_GAP}*{_FIELD}{_GAP}*="
    rf"|{_FOREIGN}{_GAP}+[^\s\[\]=]{{1,8}}{_GAP}*=)"
)
_HEADER = re.compile(
    rf"\[{_GAP}*(?:(?i:{_MEMORY}){_GAP}*|{_FOREIGN}{_GAP}+)[^\s\[\]=]{{1,4}}{_GAP}*={_GAP}*"
    r"([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})(?=[\s\0\]])"
)
_PLAIN = re.compile(r"[\t-\r -~]*")

# Letters that look Latin and whose names do not say so.
_ALIKE = {
    **dict.fromkeys("МмΜϺᎷⲘꓟ", "M"),
    **dict.fromkeys("ЕеΕᎬ⋿ⲈꓰЄ", "E"),
    **dict.fromkeys("ОоΟοՕⲞꓳᎾꮎ", "O"),
    **dict.fromkeys("ᎡᏒᖇꓣƦ", "R"),
    **dict.fromkeys("УуΥϒҮᎩᎽⲨꓬ", "Y"),
    **dict.fromkeys("ІіΙι", "i"),
    **dict.fromkeys("ԁ", "d"),
    **dict.fromkeys("꞊᐀⹀゠", "="),
    **dict.fromkeys("\u115f\u1160\u2800\u3164\uffa0", _BLANK),
}
# LATIN LETTER SMALL CAPITAL M, NEGATIVE SQUARED LATIN CAPITAL LETTER M, REGIONAL INDICATOR SYMBOL
# LETTER M.
_NAMED = re.compile(r"\bLETTER (?:SMALL CAPITAL )?([A-Z])(?: WITH .*)?$")
_INVISIBLE = frozenset(("Mn", "Me", "Cf", "Cc", "Cn", "Co", "Cs"))
_BRACKETS = {"Ps": "[", "Pe": "]"}
_KEPT_CODES = 0x20000


class _Skeleton(dict[int, str]):
    """What each character looks like, for `str.translate`: the invisible as nothing.

    Keeps at most 131,072 characters, 12 MB.
    """

    def __missing__(self, code: int) -> str:
        alike = _looks_like(chr(code))
        if code < _KEPT_CODES:
            self[code] = alike
        return alike


def _looks_like(char: str) -> str:
    """The Latin letter, bracket or sign that a character resembles, by Unicode's own data."""
    if char in _ALIKE:
        return _ALIKE[char]
    # One character at most, so that `_places` can count.
    for part in unicodedata.normalize("NFKD", char):
        kind = unicodedata.category(part)
        if part in _ALIKE or part.isascii() or part.isspace():
            return _ALIKE.get(part, part)
        if kind in _BRACKETS:
            return _BRACKETS[kind]
        if kind not in _INVISIBLE:
            named = _NAMED.search(unicodedata.name(part, ""))
            return named[1] if named else part
    return ""


_SKELETON = _Skeleton(
    {code: chr(code) if _PLAIN.fullmatch(chr(code)) else "" for code in range(128)}
)


def escape(text: str) -> str:
    """A text that holds no header: `[MEMORY ` becomes `[_MEMORY `.

    So do look-alikes of other alphabets, with invisible characters between the letters, and in
    other letters where a field of a header follows. Overrides of writing direction are removed.
    Linear in the text's length, and idempotent.
    """
    plain = _PLAIN.fullmatch(text) is not None
    text = text if plain else without_directions(text)
    seen = text if plain else text.translate(_SKELETON)
    ends = [found.end() for found in _OPENING.finditer(seen)]
    if not ends:
        return text
    pieces, done = [], 0
    for place in ends if plain else _places(text, ends):
        pieces += [text[done:place], "_"]
        done = place
    return "".join([*pieces, text[done:]])


def escape_all(texts: list[str]) -> list[str]:
    """Several texts, such as tags, each without a header."""
    return [escape(each) for each in texts]


def escape_json(text: str) -> str:
    """JSON text whose names and texts hold no header."""
    if text.isascii() and "[" not in text and "\\" not in text:
        return text
    return json.dumps(_escaped(json.loads(text)), ensure_ascii=False, separators=(",", ":"))


def _escaped(data: object) -> object:
    if isinstance(data, str):
        return escape(data)
    if isinstance(data, list):
        return [_escaped(each) for each in data]
    if isinstance(data, dict):
        return {escape(name): _escaped(each) for name, each in data.items()}
    return data


def recalled_id(text: str) -> UUID | None:
    """The id of the memory that a text was recalled from, in the text's first header, if any."""
    plain = _PLAIN.fullmatch(text) is not None
    found = _HEADER.search(text if plain else text.translate(_SKELETON))
    return UUID(found.group(1)) if found else None


def render_for_agent(reader_id: UUID, row: MemoryRow | VersionRow, *, rest: bool = False) -> str:
    """The text of a memory as an agent may read it, see `render_text`.

    Args:
        reader_id: the workspace that reads.
        row: the stored memory, or one of its texts.
        rest: for clients that know scopes.
    """
    memory_id = row.id if isinstance(row, MemoryRow) else row.memory_id
    return render_text(reader_id, memory_id, row.namespace, row.author_id, row.content, rest=rest)


def render_text(
    reader_id: UUID,
    memory_id: UUID,
    namespace: str,
    author_id: UUID | None,
    content: str,
    *,
    rest: bool = False,
) -> str:
    """A text as an agent may read it. Every surface that shows texts of memories calls this.

    A text of the organisation, and each that the reader did not write, comes behind
    `[MEMORY id=<id> scope=<ORG|TEAM|CUSTOM> ns=<namespace>]: `. No text can forge that header.

    Args:
        reader_id: the workspace that reads.
        memory_id: whose text it is.
        namespace: the one that holds the memory.
        author_id: who wrote the text; None if the author was purged.
        content: the text as stored.
        rest: for clients that know scopes, whose header says
            `scope=<GLOBAL|TEAM|CUSTOM> from=<author>`.
    """
    content = escape(content)
    kind = namespace.partition(":")[0]
    if kind != "org" and author_id == reader_id:
        return content
    if rest:
        about = f"scope={scope_of(namespace)} from={author_id or ''}"
    else:
        about = f"scope={_SCOPES.get(kind, _CUSTOM)} ns={namespace}"
    return f"[MEMORY id={memory_id} {about}]: {content}"


def shown(reader_id: UUID, row: MemoryRow, *, rest: bool = False) -> MemoryRow:
    """A memory as an agent may read it: no field of it can forge a header."""
    return row._replace(
        content=render_for_agent(reader_id, row, rest=rest),
        tags=escape_all(row.tags),
        entities=escape_all(row.entities),
        label=escape(row.label),
        author_name=None if row.author_name is None else escape(row.author_name),
        delegation_id=None if row.delegation_id is None else escape(row.delegation_id),
        metadata=None if row.metadata is None else escape_json(row.metadata),
    )


def shown_version(reader_id: UUID, row: VersionRow) -> VersionRow:
    """One text of a memory as an agent may read it."""
    return row._replace(content=render_for_agent(reader_id, row))


def scope_of(namespace: str) -> str:
    """The scope LOCAL, TEAM, GLOBAL or CUSTOM of a namespace, for clients that know scopes."""
    return _SCOPES_OF_REST.get(namespace.partition(":")[0], _CUSTOM)


def _places(text: str, ends: list[int]) -> list[int]:
    """Where in a text the characters are that its skeleton has at these places, in order."""
    places, shown, wanted = [], 0, iter(ends)
    goal = next(wanted, None)
    for place, char in enumerate(text):
        visible = bool(_SKELETON[ord(char)])
        if visible and shown == goal:
            places.append(place)
            goal = next(wanted, None)
        shown += visible
    # An opening at the very end of a text has no character behind it.
    return places + [len(text)] * (len(ends) - len(places))
