"""What is on an engine and shall not be, and what shall be and is not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from molecule_grpc.backends.contract.workloads import Owned
from molecule_grpc.backends.reconcile.rules import Expected, absent, orphans

WORKSPACE, OTHER, OWNER = UUID(int=1), UUID(int=2), UUID(int=9)
AT = datetime(2026, 1, 1, tzinfo=UTC)


def there(resource_id: str = "c1", *, running: bool = True) -> Owned:
    return Owned(WORKSPACE, resource_id, OWNER, UUID(int=3), running, AT)


def row(**given: Any) -> Expected:
    plain: dict[str, Any] = {
        "organization_id": OWNER,
        "backend": "docker",
        "resource_id": "c1",
        "removed": False,
        "rests": False,
        "busy": False,
    }
    return Expected(**plain | given)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (there(), row()),
        (there(running=False), row()),
        (there(running=False), row(rests=True)),
        (there(""), row()),
        (there(""), row(backend="ec2")),
        (there("old"), row(busy=True)),
        (there("old"), row(removed=True, busy=True)),
    ],
)
def test_what_a_row_expects_or_an_operation_works_on_is_left_alone(
    found: Owned, expected: Expected
) -> None:
    assert orphans("docker", [found], {WORKSPACE: expected}) == []


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (there("old"), row()),
        (there(), row(backend="ec2", resource_id="i-1")),
        (there(), row(resource_id="")),
        (there(), row(rests=True)),
    ],
)
def test_what_a_live_row_does_not_want_goes_and_its_volumes_stay(
    found: Owned, expected: Expected
) -> None:
    [orphan] = orphans("docker", [found], {WORKSPACE: expected})
    assert (orphan.resource_id, orphan.with_volumes) == (found.resource_id, False)


@pytest.mark.parametrize("rows", [{}, {WORKSPACE: row(removed=True)}])
@pytest.mark.parametrize("found", [there(), there(running=False), there("")])
def test_what_belongs_to_no_live_row_goes_with_its_volumes(
    found: Owned, rows: dict[UUID, Expected]
) -> None:
    [orphan] = orphans("docker", [found], rows)
    assert (orphan.organization_id, orphan.with_volumes) == (OWNER, True)


def test_only_what_is_not_there_at_all_is_absent() -> None:
    expected = {WORKSPACE: "c1", OTHER: "c2"}
    assert absent(expected, [there(running=False)]) == [OTHER]
    assert absent(expected, [there("old"), there("")]) == [WORKSPACE, OTHER]
