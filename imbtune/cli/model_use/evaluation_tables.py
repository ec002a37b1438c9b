"""What `imbtune evaluate` prints."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from imbtune.cli.settings import make_console, print_text
from imbtune.errors import printable
from imbtune.inference.evaluating.evaluate_model import METHOD, EvaluationResult
from imbtune.inference.evaluating.metric_intervals import ClassRow
from imbtune.metrics.metric_registry import group_lines
from imbtune.metrics.number_text import as_text

MOST_CLASSES = 100  # rows of the printed table


def print_evaluation(result: EvaluationResult) -> None:
    """Print the notes on the images, the metrics with their intervals, and the classes."""
    console = make_console()
    for note in result.notes:
        print_text(printable(note), console)
    table = Table(title=printable(f"{number_of_images(result.count)}: {result.what}"))
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    for found in result.intervals:
        ends = "" if found.low is None else f"[{as_text(found.low)}, {as_text(found.high)}]"
        table.add_row(printable(found.title), as_text(found.value), ends)
    console.print(table)
    if groups := group_lines(found.name for found in result.intervals):
        print_text("\n".join(groups), console)
    console.print(_class_table(result.per_class))
    if len(result.per_class) > MOST_CLASSES:
        left = len(result.per_class) - MOST_CLASSES
        print_text(f"{left:,} more classes: --out FILE writes all", console)
    if result.resamples > 1:
        print_text(f"Intervals: {METHOD}; {result.resamples} draws; recalls: Wilson", console)


def _class_table(rows: Sequence[ClassRow]) -> Table:
    table = Table(title="classes")
    table.add_column("class")
    headings = ("images", "predicted", "recall", "95 % interval", "precision", "F1", "AUROC", "AP")
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows[:MOST_CLASSES]:
        ends = ""
        if row.recall_low is not None and row.recall_high is not None:
            ends = f"[{row.recall_low:.3f}, {row.recall_high:.3f}]"
        values = (row.precision, row.f1, row.auroc, row.average_precision)
        table.add_row(
            printable(row.name),
            f"{row.images:,}",
            f"{row.predicted:,}",
            _cell(row.recall),
            ends,
            *map(_cell, values),
        )
    return table


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def number_of_images(count: int) -> str:
    """Their number in words."""
    return f"{count:,} image{'s' * (count != 1)}"
