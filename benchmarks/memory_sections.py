"""Sections of documentation in reStructuredText or DocBook's HTML, as plain words."""

from __future__ import annotations

import html.parser
import re
from collections.abc import Iterable, Iterator

_RULE = re.compile(r"^([=\-~^\"'`#*+.:_<>])\1{2,}\s*$")
_DROPPED = re.compile(
    r"^\s*(\.\. (_[^:]+:|index::|currentmodule::|module::|highlight::|toctree::|contents::|image::"
    r"|sectionauthor::|moduleauthor::|only::|class::|rubric::|literalinclude::|testsetup::"
    r"|versionadded::.{0,12}$|include::|\|).*|:[a-z]+:(?!`).*|\.\. *)$"
)
_ROLE = re.compile(r":[a-zA-Z][\w:+-]*:`(?:([^`<]*?)\s*<[^`]*>|[~!]?([^`]*))`")
_LINK = re.compile(r"`([^`<]+?)\s*<[^`>]*>`__?")
_MARKUP = re.compile(r"\*\*|``|`(?=\S)|(?<=\S)`_{0,2}")
_DIRECTIVE = re.compile(r"^(\s*)\.\. (?:[\w-]+:)?[\w-]+::\s*")


def rst_sections(text: str) -> Iterator[tuple[str, str]]:
    """Headings and bodies of a reStructuredText file, in plain words."""
    lines = text.expandtabs(4).splitlines()
    heading, place = "", 0
    body: list[str] = []
    while place < len(lines):
        line = lines[place]
        under = lines[place + 1] if place + 1 < len(lines) else ""
        further = lines[place + 2] if place + 2 < len(lines) else ""
        if _underlined(line, under) and not _RULE.match(line):
            yield heading, plain(body)
            heading, body, place = plain([line]), [], place + 2
            continue
        framed = line.rstrip() == further.rstrip() and under.strip() and not _RULE.match(under)
        if _RULE.match(line) and framed:
            yield heading, plain(body)
            heading, body, place = plain([under]), [], place + 3
            continue
        if not _DROPPED.match(line):
            body.append(line)
        place += 1
    yield heading, plain(body)


def _underlined(line: str, under: str) -> bool:
    fits = len(under.rstrip()) >= len(line.strip()) - 1
    return line[:1].strip() != "" and fits and _RULE.match(under) is not None


def plain(lines: Iterable[str]) -> str:
    """Lines of reStructuredText as words in one line."""
    text = " ".join(_DIRECTIVE.sub(r"\1", line).strip() for line in lines)
    text = _ROLE.sub(lambda found: (found[1] or found[2] or "").strip(), text)
    text = _MARKUP.sub("", _LINK.sub(r"\1", text))
    return re.sub(r"\s+", " ", text.replace("::", ":").replace("\\ ", "")).strip()


class _Page(html.parser.HTMLParser):
    """Collects the headings of a DocBook page and what is between them."""

    def __init__(self) -> None:
        super().__init__()
        self.sections: list[tuple[list[str], list[str]]] = [([], [])]
        self._in_heading = False
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        kinds = dict(attrs).get("class") or ""
        if tag in ("h1", "h2", "h3", "h4"):
            self._in_heading = True
            self.sections.append(([], []))
        if self._hidden or tag in ("script", "style", "head") or kinds in _AROUND:
            self._hidden += tag not in ("br", "img", "hr", "link", "meta", "input", "col")

    def handle_endtag(self, tag: str) -> None:
        if tag in ("h1", "h2", "h3", "h4"):
            self._in_heading = False
        if self._hidden:
            self._hidden -= 1

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.sections[-1][0 if self._in_heading else 1].append(data)


_AROUND = frozenset({"navheader", "navfooter", "toc", "list-of-tables"})
_NUMBER = re.compile(r"^(chapter\s+)?[\d.]+\s*", re.IGNORECASE)


def html_sections(text: str) -> Iterator[tuple[str, str]]:
    """Headings, without their numbers, and bodies of a DocBook page."""
    page = _Page()
    page.feed(text)
    for heading, body in page.sections:
        title = re.sub(r"\s+", " ", "".join(heading)).strip()
        yield _NUMBER.sub("", title), re.sub(r"\s+", " ", "".join(body)).strip()
