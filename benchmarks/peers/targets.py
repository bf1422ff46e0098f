"""What the product is held to beside its peers, and whether a run met it."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.peers.rounds import Figures, Row, why_not

ratio, difference = operator.truediv, operator.sub


@dataclass(frozen=True, slots=True)
class Target:
    """A bound of one row's figure, or of what it is to another row's.

    Args:
        row: the row that is judged.
        base: the row that its figure is compared with, round by round; empty for the figure alone.
        compare: how they are compared.
        at_least: whether more is better.
    """

    what: str
    row: str
    base: str
    figure: Callable[[Figures], float]
    bound: float
    compare: Callable[[float, float], float] = ratio
    at_least: bool = True

    def verdict(self, rows: dict[str, Row]) -> str:
        """One line: the figure, the bound, met or missed."""
        involved = [rows[name] for name in (self.row, self.base) if name]
        blamed = next((row for row in involved if not row.rounds), None)
        if blamed is not None:
            return f"{self.what}: {why_not(blamed)}"
        found = statistics.median(self._rounds(*involved))
        met = found >= self.bound if self.at_least else found <= self.bound
        sign = ">=" if self.at_least else "<="
        return (
            f"{self.what}: {found:,.2f}, target {sign} {self.bound:,g}:"
            f" {'met' if met else 'MISSED'}"
        )

    def _rounds(self, row: Row, base: Row | None = None) -> list[float]:
        if base is None:
            return [self.figure(each) for each in row.rounds]
        pairs = zip(row.rounds, base.rounds, strict=False)
        return [self.compare(self.figure(own), self.figure(other)) for own, other in pairs]
