"""What repeated measurements come to, and the lines of a table that show it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


def quartiles(values: Sequence[float]) -> list[float]:
    """The median and both quartiles; of a single value that alone."""
    if len(values) == 1:
        return [*values]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return [middle, low, high]


@dataclass(frozen=True)
class Row:
    """A line of a benchmark's table: what was measured, its quartiles, and what was aimed at."""

    what: str
    spread: Sequence[float]
    aim: str = ""

    def line(self) -> str:
        """As Markdown has it."""
        middle, *quarters = map(number, self.spread)
        around = "–".join(quarters) or "one run"
        return f"| {self.what} | {middle} | {around} | {self.aim} |"


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")
