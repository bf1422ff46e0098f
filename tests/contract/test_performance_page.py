"""docs/performance.md promises nothing that benchmarks/README.md has not measured."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*(?:–\d+(?:[.,]\d+)*)?")
_COMMAND = re.compile(r"`python -m benchmarks\.(\w+)`")
# Of a name, and not measured.
_NAMES = re.compile(r"\bp(?:50|99)\b")


def _rows() -> list[list[str]]:
    page = (ROOT / "docs" / "performance.md").read_text()
    section = page.partition("## Figures")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [line.strip("| ").split(" | ") for line in lines[1:]]


def _measured(benchmark: str) -> str:
    """What the section of this benchmark says."""
    page = (ROOT / "benchmarks" / "README.md").read_text()
    return page.partition(f"\n## `{benchmark}`")[2].partition("\n## ")[0]


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row[0])
def test_a_figure_was_measured_by_the_benchmark_that_is_named(row: list[str]) -> None:
    _, measured, _, how = row
    [command] = _COMMAND.findall(how)
    assert (ROOT / "benchmarks" / f"{command}.py").exists()
    told = set(_NUMBER.findall(_measured(command)))
    figures = set(_NUMBER.findall(_NAMES.sub("", measured)))
    assert figures
    assert figures <= told


def test_the_table_is_read() -> None:
    assert len(_rows()) > 10
