"""Pages that are generated are current, and pages that people write point at what exists."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from molecule_grpc.budgets import Budgets
from molecule_grpc.kernel.budget import WORKER
from molecule_grpc.kernel.payer import ORGANIZATION, TARGET, TOKEN, WORKSPACE
from molecule_grpc.quotas import Quotas
from molecule_grpc.settings.settings import Settings
from tools import pages, settings_doc

_MIB, _GIB = 1024**2, 1024**3
ROOT = Path(__file__).parent.parent.parent
_LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
# The last column of the table of RPCs: a test that moves must not make the page stale.
_TESTED_IN = re.compile(r" \[`test_\w+\.py`\]\(\.\./tests/e2e/(test_\w+\.py)\) \|$", re.MULTILINE)
_PLACE = re.compile(r"`(?!application/)([a-z][\w./-]*/[\w./-]*)`")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("name", sorted(pages.pages()))
def test_a_generated_page_is_current(name: str) -> None:
    """Otherwise: make docs."""
    written = (ROOT / "docs" / name).read_text()
    assert _TESTED_IN.sub("", written) == _TESTED_IN.sub("", pages.pages()[name]())


def test_every_rpc_names_a_test_file_that_exists() -> None:
    page = (ROOT / "docs" / "rpcs.md").read_text()
    rows = [
        line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| RPC")
    ]
    named = _TESTED_IN.findall(page)
    assert len(named) == len(rows)
    assert [name for name in named if not (ROOT / "tests" / "e2e" / name).exists()] == []


def test_every_setting_has_a_meaning() -> None:
    """In the docstring of its group: `make docs` copies it into docs/operating.md."""
    assert [name for name, meaning in settings_doc.meanings().items() if not meaning] == []


def test_every_quota_and_budget_stands_in_the_table_of_limits() -> None:
    """By the name that callers read, with the default of its setting: the limit in force."""
    page = (ROOT / "docs" / "operating.md").read_text()
    section = page.partition("### Quotas and budgets")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    assert rows[0] == ["name", "of", "default", "setting", "beyond it"]
    told = {(name, of): (default, setting.strip("`")) for name, of, default, setting, _ in rows[1:]}
    assert len(told) == len(rows) - 1
    settings = Settings()
    quotas = [getattr(Quotas.of(settings), each.name) for each in fields(Quotas)]
    limits = {(quota.name, quota.of): quota.limit for quota in quotas}
    for budget in Budgets.of(settings.budgets).all:
        uses = budget.uses(**dict.fromkeys((ORGANIZATION, WORKSPACE, TOKEN, TARGET, WORKER)))
        limits |= {(budget.name, use.dimension): use.limit for use in uses}
    # The limit of open files bounds the number, too.
    limits["calls to agents", WORKER] = settings.budgets.calls_worker
    in_force = settings.describe()
    assert told == {
        key: (_shown(key[0], limit), told.get(key, ("", ""))[1]) for key, limit in limits.items()
    }
    assert {key: int(in_force[setting]) for key, (_, setting) in told.items()} == limits


def _shown(name: str, limit: int) -> str:
    """A limit as people read it."""
    if "bytes" not in name:
        return f"{limit:,}"
    return f"{limit // _GIB} GiB" if limit % _GIB == 0 else f"{limit // _MIB} MiB"


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md", "docs/edge.md"])
def test_every_place_that_a_map_names_exists(page: str) -> None:
    """Paths in backticks, from the repository or from molecule_grpc."""
    named = _PLACE.findall((ROOT / page).read_text())
    homes = (ROOT, ROOT / "molecule_grpc", ROOT / "tests", ROOT / "docs")
    # A folder's name alone stands for the folder of that name in each slice.
    places = [place for place in named if place.count("/") > 1 or not place.endswith("/")]
    assert [p for p in places if not any((home / p).exists() for home in homes)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    links = [link for link in _LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
