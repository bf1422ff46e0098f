"""Parameters of a statement that is put together from parts."""

from __future__ import annotations


class Arguments:
    """Counts parameters, so that a part of a statement names its own by what `add` answers."""

    def __init__(self) -> None:
        self.values: list[object] = []

    def add(self, value: object, kind: str) -> str:
        """SQL for a value, with its type in Postgres."""
        self.values.append(value)
        return f"${len(self.values)}::{kind}"
