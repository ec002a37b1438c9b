"""Quartiles of repeated measurements, rows of result tables, and the benchmarks' command line."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Results = dict[str, Any]  # of one benchmark, as they are stored in results/*.json


def quartiles(values: Sequence[float]) -> list[float]:
    """Median, lower and upper quartile; a single value alone is returned as it is."""
    if len(values) == 1:
        return [*values]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return [middle, low, high]


@dataclass(frozen=True)
class Row:
    """A row of a benchmark's table.

    Attributes:
        what: the quantity, with its unit.
        spread: its median and quartiles, or a single value.
        target: the value that was aimed for; empty without one.
    """

    what: str
    spread: Sequence[float]
    target: str = ""

    def line(self) -> str:
        """The row in Markdown."""
        middle, *quarters = map(number, self.spread)
        around = "–".join(quarters) or "one run"
        return f"| {self.what} | {middle} | {around} | {self.target} |"


def number(value: float) -> str:
    """The value with three significant digits, and as an integer from 1000 on."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")


def print_results(
    measure: Callable[..., Results], description: str | None, **defaults: int
) -> None:
    """Run a benchmark with the numbers from the command line, and print its results as JSON.

    Args:
        measure: called with a value for each name in `defaults`.
        description: for `--help`.
        defaults: each is an option, `--repeats` for `repeats`, with this default.
    """
    parser = argparse.ArgumentParser(description=description)
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    print(json.dumps(measure(**vars(parser.parse_args())), indent=1, allow_nan=False))
