"""Rows that take turns, and the table of their medians."""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

from rich.table import Table

from benchmarks.clients import Result

MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Figures:
    """One round of one row.

    Args:
        rate: works per second: calls, heartbeats, or messages delivered.
        cpu: microseconds of the server's processor time for one work.
        postgres: the same of Postgres; 0 where there is none.
    """

    rate: float
    p50: float
    p99: float
    cpu: float
    postgres: float = 0.0

    def __str__(self) -> str:
        return (
            f"{self.rate:,.0f}/s, p50 {self.p50:.2f} ms, p99 {self.p99:.2f} ms,"
            f" {self.cpu:.0f} µs, Postgres {self.postgres:.0f} µs"
        )

    @classmethod
    def of(cls, seen: Result) -> Self:
        """The figures of a client process."""
        each = MILLION / seen.rate
        return cls(seen.rate, seen.p50, seen.p99, seen.server * each, seen.database * each)


@dataclass(slots=True)
class Row:
    """A row of the table: a server under one kind of load.

    Args:
        base: the row that the ratio of this one is to; empty for none.
        skipped: why the row cannot be measured here; empty if it can.
        failed: why it was given up; empty for a row whose rounds all ended.
    """

    name: str
    run: Callable[[], Awaitable[Figures]] | None = None
    base: str = ""
    skipped: str = ""
    failed: str = ""
    rounds: list[Figures] = field(default_factory=list)


Groups = Sequence[Sequence[Row]]


async def interleave(groups: Groups, rounds: int) -> None:
    """Run every row once as a warm-up, then all rows in turn, `rounds` times.

    A row that fails is left out from then on, and its figures are forgotten.
    """
    rows = [row for group in groups for row in group]
    for number in range(rounds + 1):
        for row in rows:
            if row.run is None or row.failed:
                continue
            try:
                figures = await row.run()
            except AssertionError as error:
                row.failed = str(error)
                row.rounds.clear()
                continue
            print(f"round {number}: {row.name}: {figures}", file=sys.stderr, flush=True)
            if number:
                row.rounds.append(figures)


def ratio(row: Row, base: Row, figure: Callable[[Figures], float]) -> float | None:
    """The median over the rounds of one row's figure to another's; None without rounds."""
    pairs = list(zip(row.rounds, base.rounds, strict=False))
    if not pairs:
        return None
    return statistics.median(figure(own) / figure(other) for own, other in pairs)


def why_not(row: Row) -> str:
    """Why a row has no figures."""
    return f"FAILED: {row.failed}" if row.failed else f"SKIPPED: {row.skipped}"


def rate(figures: Figures) -> float:
    return figures.rate


def p50(figures: Figures) -> float:
    return figures.p50


def p99(figures: Figures) -> float:
    return figures.p99


def cpu(figures: Figures) -> float:
    return figures.cpu


def table(title: str, groups: Groups) -> Table:
    """All rows: medians of their rounds."""
    loads = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    made = Table(title=title, caption=f"medians; load average of the machine: {loads}")
    for heading in ("", "/s", "ratio", "p50 ms", "p99 ms", "CPU µs", "Postgres µs"):
        made.add_column(heading, justify="right" if heading else "left", no_wrap=True)
    by_name = {row.name: row for group in groups for row in group}
    for group in groups:
        for row in group:
            made.add_row(row.name, *_cells(row, by_name.get(row.base)))
        made.add_section()
    return made


def _cells(row: Row, base: Row | None) -> tuple[str, ...]:
    if not row.rounds:
        return ("FAILED" if row.failed else "SKIPPED",)
    to_base = ratio(row, base, rate) if base else None
    return (
        f"{_median(row, rate):,.0f}",
        "" if to_base is None else f"{to_base:.2f}",
        f"{_median(row, p50):.2f}",
        f"{_median(row, p99):.1f}",
        f"{_median(row, cpu):.0f}",
        f"{_median(row, lambda each: each.postgres):.0f}",
    )


def _median(row: Row, figure: Callable[[Figures], float]) -> float:
    return statistics.median(figure(each) for each in row.rounds)
