"""Rows travel as their NamedTuple says."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

import pytest

from molecule_grpc.db import rows
from molecule_grpc.delegation.ledger.store.accept import DelegationDraft
from molecule_grpc.delegation.ledger.store.move import Move
from molecule_grpc.delegation.record.store.entries import Entry


class Note(NamedTuple):
    """A row with one column that may be NULL and one that may not."""

    id: UUID
    text: str | None = None


class Strange(NamedTuple):
    """A row with a column that Postgres does not know."""

    parts: list[str]


def test_columns_are_the_fields_in_order() -> None:
    assert rows.unnest(Note, 3, "n") == (
        'unnest($3::uuid[], $4::text[]) WITH ORDINALITY AS n ("id", "text", ord)'
    )


def test_values_follow_the_columns() -> None:
    first, second = UUID(int=1), UUID(int=2)
    assert rows.columns([Note(first, "a"), Note(second)]) == [[first, second], ["a", None]]


def test_field_without_a_type_of_postgres_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Strange\.parts"):
        rows.arrays(Strange, 1)


@pytest.mark.parametrize("row", [DelegationDraft, Move, Entry])
def test_names_parameters_and_fields_agree(row: type[tuple[object, ...]]) -> None:
    fields = row._fields  # type: ignore[attr-defined]
    assert rows.names(row) == ", ".join(f'"{field}"' for field in fields)
    assert rows.arrays(row, 1).count("$") == len(fields)
