"""The corpus of the memory benchmark: sections of released documentation, and their authors' questions.

    python -m benchmarks.memory_corpus            fetch the sources, build, compare with the hashes kept here

A memory is the first 600 characters of a section without its heading. A heading that is a question of four words or
more is a question, and its own section the one relevant memory: whoever wrote the documentation judged it. A better
answer in another section counts as a miss. Nothing of the sources is kept in the repository: their licences differ.
Sources come from the package registries by version and SHA-256, and stay in `~/.cache/molecule-grpc/corpus`
(`MEMORY_CORPUS_DIR`).
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import html.parser
import io
import json
import os
import random
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

CHARACTERS = 600
_SHORTEST = 120
_WORDS_OF_A_QUESTION = 4
_SEED = 20261128
_SMALL = 2000
_IDENTIFIERS = 200


class Section(NamedTuple):
    """A heading with the text below it."""

    project: str
    heading: str
    body: str


class Question(NamedTuple):
    """A query with the one memory that answers it, by its place in the corpus."""

    text: str
    answer: int
    project: str


@dataclass(frozen=True, slots=True)
class Corpus:
    """What is searched, and for what."""

    memories: list[str]
    questions: list[Question]
    identifiers: list[Question]

    def half(self, kind: str, *, held_out: bool) -> list[Question]:
        """The dev or the held-out half of the `questions` or `identifiers`, by the hash of their text."""
        return [each for each in getattr(self, kind) if is_held_out(each.text) == held_out]


@dataclass(frozen=True, slots=True)
class Source:
    """A released package.

    Args:
        requirement: of pip, or `name=version` of apt for a Debian package.
        sha256: of the file.
        folder: where the documentation is, a regular expression on the path within the file.
    """

    project: str
    requirement: str
    file: str
    sha256: str
    folder: str


SOURCES = (
    Source(
        "django",
        "Django==5.2.7",
        "django-5.2.7.tar.gz",
        "e0f6f12e2551b1716a95a63a1366ca91bbcd7be059862c1b18f989b1da356cdd",
        r"^[^/]+/docs/(?!releases/|_ext/|man/|_theme).*\.txt$",
    ),
    Source(
        "celery",
        "celery==5.5.3",
        "celery-5.5.3.tar.gz",
        "6c972ae7968c2b5281227f01c3a3f984037d21c5129d07bf3550cc2afc6b10a5",
        r"^[^/]+/docs/(?!history/|internals/|reference/).*\.rst$",
    ),
    Source(
        "scrapy",
        "Scrapy==2.13.3",
        "scrapy-2.13.3.tar.gz",
        "bf17588c10e46a9d70c49a05380b749e3c7fba58204a367a5747ce6da2bd204d",
        r"^[^/]+/docs/(?!news\.rst|_tests).*\.rst$",
    ),
    Source(
        "psycopg2",
        "psycopg2==2.9.10",
        "psycopg2-2.9.10.tar.gz",
        "12ec0b40b0273f95296233e8750441339298e6a572f7039da5b260e3c8b60e11",
        r"^[^/]+/doc/src/.*\.rst$",
    ),
    Source(
        "sphinx",
        "Sphinx==8.1.3",
        "sphinx-8.1.3.tar.gz",
        "43c1911eecb0d3e161ad78611bc905d1ad0e523e4ddc202a58a821773dc4c927",
        r"^[^/]+/doc/(?!changes/).*\.rst$",
    ),
    Source(
        "tornado",
        "tornado==6.5.2",
        "tornado-6.5.2.tar.gz",
        "ab53c8f9a0fa351e2c0741284e06c7a45da86afb544133201c5cc8578eb076a0",
        r"^[^/]+/docs/(?!releases/).*\.rst$",
    ),
    Source(
        "python",
        "python3.11-doc=3.11.2-6+deb12u9",
        "python3.11-doc_3.11.2-6+deb12u9_all.deb",
        "5b3594189d6ef9a6963ce0347fd307a1cc67620ad697e144db366070e2e146be",
        r"/html/_sources/(?!whatsnew/).*\.rst\.txt$",
    ),
    Source(
        "debian",
        "debian-faq=11.1",
        "debian-faq_11.1_all.deb",
        "427426e0cfa6888622fc1d72631071cb4b5a1f86ccde722e7820bcef284de5d0",
        r"/FAQ/[a-z-]+\.en\.html$",
    ),
)


def directory() -> Path:
    """Where fetched sources stay."""
    given = os.environ.get("MEMORY_CORPUS_DIR")
    return Path(given) if given else Path.home() / ".cache" / "molecule-grpc" / "corpus"


def fetch(source: Source) -> Path:
    """The source's file, fetched if it is not here yet.

    Raises SystemExit if it cannot be had or is another file than the one that was measured.
    """
    path = directory() / source.file
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        command = (
            ["apt-get", "download", source.requirement]
            if source.file.endswith(".deb")
            else [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
            + ["--no-binary=:all:", source.requirement]
        )
        done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, check=False)
        if not path.exists():
            raise SystemExit(f"{source.requirement} cannot be had: {done.stderr.strip()[-500:]}")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != source.sha256:
        raise SystemExit(f"{path} has SHA-256 {found}, not {source.sha256}")
    return path


def sections_of(source: Source, path: Path) -> Iterator[Section]:
    """The sections of a source, in the order of their files' names."""
    wanted = re.compile(source.folder)
    parse: Callable[[str], Iterable[tuple[str, str]]]
    for name, data in sorted(_files(path)):
        if wanted.search(name):
            parse = html_sections if name.endswith(".html") else rst_sections
            for heading, body in parse(data.decode("utf-8", "replace")):
                yield Section(source.project, heading, body)


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.suffix == ".deb":
        data = subprocess.run(
            ["dpkg-deb", "--fsys-tarfile", path], capture_output=True, check=True
        ).stdout
        archive = tarfile.open(fileobj=io.BytesIO(data))
    else:
        archive = tarfile.open(path)
    with archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                yield member.name, file.read()


_RULE = re.compile(r"^([=\-~^\"'`#*+.:_<>])\1{2,}\s*$")
_DROPPED = re.compile(
    r"^\s*(\.\. (_[^:]+:|index::|currentmodule::|module::|highlight::|toctree::|contents::|image::|sectionauthor::"
    r"|moduleauthor::|only::|class::|rubric::|literalinclude::|testsetup::|versionadded::.{0,12}$|include::"
    r"|\|).*|:[a-z]+:(?!`).*|\.\. *)$"
)
_ROLE = re.compile(r":[a-zA-Z][\w:+-]*:`(?:([^`<]*?)\s*<[^`]*>|[~!]?([^`]*))`")
_LINK = re.compile(r"`([^`<]+?)\s*<[^`>]*>`__?")
_MARKUP = re.compile(r"\*\*|``|`(?=\S)|(?<=\S)`_{0,2}")
_DIRECTIVE = re.compile(r"^(\s*)\.\. (?:[\w-]+:)?[\w-]+::\s*")


def rst_sections(text: str) -> Iterator[tuple[str, str]]:
    """Headings and bodies of a reStructuredText file, in plain words."""
    lines = text.expandtabs(4).splitlines()
    heading, body, place = "", [], 0
    while place < len(lines):
        line = lines[place]
        under = lines[place + 1] if place + 1 < len(lines) else ""
        if line.strip() and _RULE.match(under) and len(under.rstrip()) >= len(line.strip()) - 1:
            if line[:1] != " " and not _RULE.match(line):
                yield heading, plain(body)
                heading, body, place = plain([line]), [], place + 2
                continue
        if _RULE.match(line) and under.strip() and place + 2 < len(lines):
            if lines[place + 2].rstrip() == line.rstrip() and not _RULE.match(under):
                yield heading, plain(body)
                heading, body, place = plain([under]), [], place + 3
                continue
        if not _DROPPED.match(line):
            body.append(line)
        place += 1
    yield heading, plain(body)


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


def is_question(heading: str) -> bool:
    """Whether a heading asks something in four words or more."""
    return heading.endswith("?") and len(heading.split()) >= _WORDS_OF_A_QUESTION


def is_held_out(text: str) -> bool:
    """Whether a query belongs to the half on which nothing may be chosen."""
    return hashlib.sha256(text.encode()).digest()[0] % 2 == 1


def build(sources: Iterable[Source] = SOURCES) -> tuple[list[Section], list[Question]]:
    """All sections of 120 characters or more, equal bodies once, cut to 600; and all questions."""
    sections: list[Section] = []
    questions: list[Question] = []
    known: set[str] = set()
    for source in sources:
        for section in sections_of(source, fetch(source)):
            body = section.body[:CHARACTERS].rstrip()
            if len(body) < _SHORTEST or body in known:
                continue
            known.add(body)
            if is_question(section.heading):
                questions.append(Question(section.heading, len(sections), section.project))
            sections.append(section._replace(body=body))
    return sections, questions


def corpus(form: str) -> Corpus:
    """The corpus in the `small` form of 2,000 memories or the `full` one.

    Raises SystemExit if a source cannot be had, or if the corpus is not the one that was measured.
    """
    sections, questions = build()
    memories = [section.body for section in sections]
    if form == "small":
        memories, questions = _reduced(memories, questions)
    projects = {body: project for project, _, body in sections}
    built = Corpus(memories, questions, _identifiers(memories, projects))
    found = fingerprint(built)
    if found != FINGERPRINTS[form]:
        raise SystemExit(f"the {form} corpus has fingerprint {found}, not {FINGERPRINTS[form]}")
    return built


def fingerprint(built: Corpus) -> str:
    """SHA-256 of all memories and queries."""
    text = json.dumps([built.memories, built.questions, built.identifiers], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _reduced(memories: list[str], questions: list[Question]) -> tuple[list[str], list[Question]]:
    answers = {each.answer for each in questions}
    others = sorted((n for n in range(len(memories)) if n not in answers), key=_lot(memories))
    chosen = sorted([*answers, *others[: _SMALL - len(answers)]])
    places = {old: new for new, old in enumerate(chosen)}
    kept = [each._replace(answer=places[each.answer]) for each in questions]
    return [memories[n] for n in chosen], kept


def _lot(memories: list[str]) -> Callable[[int], bytes]:
    return lambda n: hashlib.sha256(f"{_SEED} {memories[n]}".encode()).digest()


_TOKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*[A-Za-z0-9_]")


def looks_like_identifier(token: str) -> bool:
    """Whether a word of 6 to 60 characters has an underscore, a dot or a capital within."""
    inner = token[1:]
    return 6 <= len(token) <= 60 and (
        "_" in token.strip("_")
        or "." in inner
        or any(a.islower() and b.isupper() for a, b in zip(inner, inner[1:], strict=False))
    )


def _identifiers(memories: list[str], projects: dict[str, str]) -> list[Question]:
    """200 identifiers that stand in exactly one memory, as a part of longer words too."""
    places: dict[str, int] = {}
    for place, memory in enumerate(memories):
        for token in set(_TOKEN.findall(memory)):
            if looks_like_identifier(token):
                places[token] = -1 if token in places else place
    whole = "\n".join(memories).lower()
    found: list[Question] = []
    for token in sorted(
        places, key=lambda token: hashlib.sha256(f"{_SEED} {token}".encode()).digest()
    ):
        place = places[token]
        if place >= 0 and whole.count(token.lower()) == memories[place].lower().count(
            token.lower()
        ):
            found.append(Question(token, place, projects[memories[place]]))
            if len(found) == _IDENTIFIERS:
                break
    return found


FINGERPRINTS = {
    "small": "ea0deceaaeeb34b2d6b455a501d1d9325daf93aaf8930056ce789c49d52a1733",
    "full": "5d7c646530b3d3d712078e41b1aee83d91069de2396c707629006e5d38206a9b",
}


def main() -> None:
    """Build both forms and say what they hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--show", type=int, default=0, help="print so many questions with their answers"
    )
    arguments = parser.parse_args()
    for form in FINGERPRINTS:
        built = corpus(form)
        halves = [len(built.half(kind, held_out=True)) for kind in ("questions", "identifiers")]
        print(
            f"{form}: {len(built.memories)} memories, {len(built.questions)} questions ({halves[0]} held out), "
            f"{len(built.identifiers)} identifiers ({halves[1]} held out), {fingerprint(built)}"
        )
        for each in built.questions[: arguments.show]:
            print(f"  {each.text}\n    {built.memories[each.answer]}")


if __name__ == "__main__":
    main()
