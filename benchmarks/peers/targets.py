"""What the product is held to beside its peers, and whether a run met it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.peers.rounds import Figures, Row, ratio, why_not


@dataclass(frozen=True, slots=True)
class Target:
    """A bound of the ratio of one row's figure to another's, and the row that is judged.

    Args:
        at_least: whether more is better.
    """

    what: str
    row: str
    base: str
    figure: Callable[[Figures], float]
    bound: float
    at_least: bool = True

    def verdict(self, rows: dict[str, Row]) -> str:
        """One line: the ratio, the bound, met or missed."""
        found = ratio(rows[self.row], rows[self.base], self.figure)
        sign = ">=" if self.at_least else "<="
        if found is None:
            blamed = rows[self.base] if rows[self.row].rounds else rows[self.row]
            return f"{self.what}: {why_not(blamed)}"
        met = found >= self.bound if self.at_least else found <= self.bound
        return f"{self.what}: {found:.2f}, target {sign} {self.bound}: {'met' if met else 'MISSED'}"
