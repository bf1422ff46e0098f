"""Every error of the code is in the catalogue, and reads the same on the wire."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from molecule_grpc import quotas
from molecule_grpc.db import group_commit
from molecule_grpc.kernel import errors
from molecule_grpc.kernel.errors import MoleculeError
from molecule_grpc.server.status import HTTP_BY_REASON, KINDS, render, render_bug
from molecule_grpc.templates.reading import files as template_files
from tools import errors_doc
from tools.descriptors import Contract

ROOT = Path(__file__).parent.parent.parent
# The client and the command line have errors of their own.
SERVER = [
    path
    for path in sorted((ROOT / "molecule_grpc").rglob("*.py"))
    if path.relative_to(ROOT).parts[1] not in ("client", "cli")
]
NAME = re.compile(r"[A-Z][A-Z_]{3,}")
# gRPC's own end, ends of streams that a frame tells, and what the next release raises.
NOT_RAISED = {"STREAM_AGED"}
# A session that was replaced: its stream ends with ABORTED, its acks with the catalogue's code. A
# message above the limit of every request: gRPC's own code for one that the host does not read. A
# call that takes too long: a client's own limit, or the platform's.
TWO_CODES = {
    ("FENCED", "ABORTED"),
    ("BODY_TOO_LARGE", "RESOURCE_EXHAUSTED"),
    ("DEADLINE_EXCEEDED", "UNAVAILABLE"),
}


@dataclass(frozen=True, slots=True)
class Raised:
    """One place that makes an error."""

    kind: type[MoleculeError]
    reason: str
    where: str


@pytest.fixture(scope="module")
def catalogue(commented: Contract) -> dict[str, errors_doc.Reason]:
    return {reason.name: reason for reason in errors_doc.read_reasons(commented)}


@pytest.fixture(scope="module")
def raised() -> list[Raised]:
    return [each for path in SERVER for each in _made(path)]


def test_every_reason_in_the_code_is_in_the_catalogue(
    catalogue: dict[str, errors_doc.Reason],
) -> None:
    """Also those that travel in frames instead of errors."""
    unknown = {
        f"{path.relative_to(ROOT)}: {reason}"
        for path in SERVER
        for reason in _reason_constants(ast.parse(path.read_text()))
        if reason not in catalogue
    }
    assert unknown == set()


def test_every_class_has_a_default_reason_in_the_catalogue(
    catalogue: dict[str, errors_doc.Reason],
) -> None:
    assert {kind.default_reason for kind in _kinds()} <= set(catalogue)


def test_every_error_reads_as_the_catalogue_says(
    catalogue: dict[str, errors_doc.Reason], raised: list[Raised]
) -> None:
    """gRPC code and HTTP status of each reason, wherever it is raised."""
    assert raised
    wrong = {
        f"{each.where}: {each.reason} is {failure.code.name} ({failure.http_status}), "
        f"the catalogue says {promised.code} ({promised.http_status})"
        for each in raised
        if (promised := catalogue.get(each.reason))
        for failure in [render(each.kind("x", reason=each.reason))]
        if (failure.code.name, failure.http_status) != (promised.code, promised.http_status)
        and (each.reason, failure.code.name) not in TWO_CODES
    }
    assert wrong == set()


def test_a_bug_reads_as_the_catalogue_says(catalogue: dict[str, errors_doc.Reason]) -> None:
    failure = render_bug("abc")
    promised = catalogue["INTERNAL"]
    assert (failure.code.name, failure.http_status) == (promised.code, promised.http_status)


def test_no_reason_is_promised_in_vain(
    catalogue: dict[str, errors_doc.Reason], raised: list[Raised]
) -> None:
    """A reason that nothing raises would make clients write code for nothing."""
    known = {each.reason for each in raised} | {kind.default_reason for kind in _kinds()}
    assert set(catalogue) - known == NOT_RAISED


def test_every_status_of_its_own_belongs_to_a_reason_of_the_catalogue(
    catalogue: dict[str, errors_doc.Reason],
) -> None:
    assert set(HTTP_BY_REASON) <= set(catalogue)


def test_every_kind_has_a_code() -> None:
    """A kind without one would reach the caller as a bug."""
    kinds = {kind for kind in _kinds() if kind.__module__ == errors.__name__}
    assert set(KINDS) == kinds - {MoleculeError}


def test_the_page_about_errors_is_current(commented: Contract) -> None:
    """docs/errors.md: `python -m tools.errors_doc` writes it anew."""
    assert (ROOT / "docs/errors.md").read_text() == errors_doc.render(commented)


def _kinds() -> list[type[MoleculeError]]:
    return [
        member
        for module in (errors, group_commit, quotas, template_files)
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, MoleculeError)
    ]


def _made(path: Path) -> Iterator[Raised]:
    """Every call in a file that makes one of our errors, or a quota, which makes its refusals."""
    kinds = {kind.__name__: kind for kind in _kinds()} | {"Quota": quotas.QuotaExceeded}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            if kind := kinds.get(name):
                where = f"{path.relative_to(ROOT)}:{node.lineno}"
                for reason in [*_reason_constants(node)] or [kind.default_reason]:
                    yield Raised(kind, reason, where)


def _reason_constants(tree: ast.AST) -> Iterator[str]:
    """Constants that are given as `reason=`, also where one of two is chosen."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "reason":
            for part in ast.walk(node.value):
                if isinstance(part, ast.Constant) and NAME.fullmatch(str(part.value)):
                    yield str(part.value)
