"""Every type of events stands in one list: SQL gets the names from there, as parameters."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from molecule_grpc.events.names import EventType, Storage

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "molecule_grpc"
QUOTED = re.compile("'({})'".format("|".join(EventType.__members__)))


def spelled(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of each event that stands in single quotes, as SQL spells texts, in a string.

    The parts of an f-string are strings of their own.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from ((node.lineno, name) for name in QUOTED.findall(node.value))


def test_no_statement_spells_the_name_of_an_event() -> None:
    """It takes the name as a parameter: a name that is not in the list cannot be written."""
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sorted(SOURCE.rglob("*.py"))
        for line, name in spelled(path.read_text())
    ]
    assert found == []


def test_a_spelled_name_is_found_wherever_it_hides() -> None:
    """In a plain statement, in a part of an f-string, and not in prose or in Python."""
    assert list(spelled("""X = "INSERT INTO t SELECT 'DELEGATION_SENT'" """))
    assert list(spelled("""X = f"CASE WHEN {a} THEN 'AGENT_MESSAGE' END" """))
    assert not list(spelled("""X = "SELECT 'completed', $1" """))
    assert not list(spelled("X = {'DELEGATION_SENT'}"))


@pytest.mark.parametrize("event", EventType)
def test_every_type_says_when_it_happens_and_what_it_carries(event: EventType) -> None:
    assert event.name == event.value
    assert re.fullmatch(r"[A-Z].*\.", event.meaning)
    assert len(set(event.payload)) == len(event.payload)
    assert event.storage in Storage
