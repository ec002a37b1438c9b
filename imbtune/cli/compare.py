"""`imbtune compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from imbtune import api
from imbtune.cli.settings import INTERRUPTED, make_console, parse_settings, parse_share
from imbtune.study.hints import resume_command

if TYPE_CHECKING:  # it imports torch
    from imbtune.comparison.layout import Layout
    from imbtune.comparison.result import ComparisonResult


def compare_command(
    space: str, *, settings: list[str] | None, gpus_per_trial: str | None, **options: object
) -> None:
    """Compare, and print the table; `options` are those of the API."""
    finish_comparison(
        api.compare(
            space,
            settings=parse_settings(settings or []),
            gpus_per_trial=parse_share(gpus_per_trial),
            **options,  # type: ignore[arg-type]
        )
    )


def finish_comparison(result: ComparisonResult) -> None:
    """Print how a comparison ended, and exit with its code."""
    from imbtune.comparison.result import TABLES

    console, runs = make_console(), len(result.comparison.runs)
    if result.interrupted:
        console.print(f"\nInterrupted after {result.done} of {runs} runs")
        _print_resume(console, result, "to resume it and train the runs that are left")
        raise typer.Exit(INTERRUPTED)
    print_layout(result.layout, console)
    console.print(f"\nThe table: {', '.join(TABLES)} in {result.path}", soft_wrap=True)
    if result.failures:
        for (row, seed), error in result.failures.items():
            console.print(f"failed: {row}, seed {seed}: {error}", soft_wrap=True, markup=False)
        _print_resume(console, result, f"to train the {runs - result.done} failed runs again")
        raise typer.Exit(1)


def print_layout(layout: Layout, console: Console) -> None:
    """The table and its notes on a terminal."""
    table = Table(title=Text(layout.title))
    for i, heading in enumerate(layout.headings):
        table.add_column(Text(heading), justify="right" if i else "left", no_wrap=not i)
    for line in layout.lines:
        table.add_row(*(Text(cell.text, style="bold" if cell.bold else "") for cell in line))
    console.print(table)
    for note in layout.notes:
        console.print(note, soft_wrap=True, markup=False)


def _print_resume(console: Console, result: ComparisonResult, why: str) -> None:
    console.print(f"\nNext: {why}:")
    console.print(f"  {resume_command(result.path)}", soft_wrap=True, markup=False)
