"""The commands of the pages about schedules and approvals, run as they stand."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.command_line import CommandLine, command_line
from tests.e2e.parties import Organization
from tests.running import RunningServer

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[list[str]]:
    """The words of each command of a page's first block."""
    found = _BLOCK.search((DOCS / page).read_text())
    assert found is not None
    lines = found[1].replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("molecule-grpc ")]


@pytest.fixture
async def researcher(org: Organization) -> Organization:
    """An organisation with a workspace of the name that the pages use."""
    await org.hire("researcher")
    return org


@pytest.fixture
def line(server: RunningServer, researcher: Organization) -> Iterator[CommandLine]:
    token = researcher.headers["authorization"].removeprefix("Bearer ")
    with command_line(server.url, token) as opened:
        yield opened


def test_the_commands_about_schedules(line: CommandLine) -> None:
    shown = {}
    for words in [*commands("schedules.md"), ["schedule", "show", "researcher", "news"]]:
        code, out, error = line.run(*words)
        assert code == 0, (words, error)
        shown[words[1]] = out
    assert "Europe/Berlin" in shown["ls"]
    assert "manual" in shown["history"]
    assert "Read the news" in shown["show"]
    assert line.json("schedule", "ls", "researcher")[0]["enabled"] is False
    assert line.json("schedule", "health")[0]["status"] == "disabled"
    for verb in ("enable", "rm"):
        assert line.run("schedule", verb, "researcher", "news")[0] == 0
    assert line.json("schedule", "ls", "researcher") == []
    code, _, error = line.run("schedule", "run", "researcher", "news")
    assert (code, "has no schedule 'news'" in error) == (2, True)


def test_the_commands_about_approvals(line: CommandLine) -> None:
    for words in commands("approvals.md"):
        pending = line.json("approval", "ls")
        named = [pending[0]["id"] if word == "$APPROVAL_ID" else word for word in words]
        code, _, error = line.run(*named)
        assert code == 0, (words, error)
    [row] = line.json("approval", "ls", "--workspace", "researcher")
    assert (row["status"], row["decided_by"]) == ("approved", "alice")
    asked = line.json("approval", "request", "researcher", "another")["approval_id"]
    assert line.run("approval", "deny", asked)[0] == 0
    assert line.run("approval", "deny", asked)[0] == 2
