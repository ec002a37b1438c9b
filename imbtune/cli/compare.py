"""`imbtune compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from imbtune import api
from imbtune.cli.settings import (
    make_console,
    parse_duration,
    parse_settings,
    parse_share,
    print_text,
    summary_output,
    with_trust,
)
from imbtune.errors import INTERRUPTED
from imbtune.study.hints import resume_command

if TYPE_CHECKING:  # it imports torch
    from imbtune.comparison.result import ComparisonResult
    from imbtune.study.results.layout import Layout

FRAME = 3  # characters between two columns of a table


def compare_command(
    space: str,
    *,
    settings: list[str] | None,
    gpus_per_trial: str | None,
    trial_timeout: str | None,
    trust: bool,
    **options: object,
) -> None:
    """Compare, and print the table; `options` are those of the API."""
    fixed, share = parse_settings(settings or []), parse_share(gpus_per_trial)
    timeout = parse_duration(trial_timeout, "--trial-timeout")
    result = with_trust(
        lambda: api.compare(
            space,
            settings=fixed,
            gpus_per_trial=share,
            trial_timeout=timeout,
            trust=trust,
            **options,  # type: ignore[arg-type]
        ),
        trust,
    )
    with summary_output(options["progress"]):
        finish_comparison(result)


def finish_comparison(result: ComparisonResult) -> None:
    """Print how a comparison ended, and exit with its code."""
    from imbtune.comparison.result import TABLES

    console, runs = make_console(), len(result.comparison.runs)
    if result.interrupted:
        console.print(f"\nInterrupted after {result.done} of {runs} runs")
        _print_resume(console, result, "to resume it and train the runs that are left")
        raise typer.Exit(INTERRUPTED)
    print_layout(result.layout, console)
    print_text(f"\nThe table: {', '.join(TABLES)} in {result.path}", console)
    if result.failures:
        for (row, seed), error in result.failures.items():
            print_text(f"failed: {row}, seed {seed}: {error}", console)
        _print_resume(console, result, f"to train the {runs - result.done} failed runs again")
        raise typer.Exit(1)


def print_layout(layout: Layout, console: Console) -> None:
    """The table and its notes on a terminal: below one another, columns that do not fit beside."""
    for i, columns in enumerate(_blocks(layout, console.width)):
        table = Table(title=None if i else Text(layout.title))
        for column in columns:
            heading = _short_lines(layout.headings[column])
            table.add_column(Text(heading), justify="right" if column else "left", no_wrap=True)
        for line in layout.lines:
            cells = [line[column] for column in columns]
            table.add_row(*(Text(_cell(c.text), style="bold" if c.bold else "") for c in cells))
        console.print(table)
    for note in layout.notes:
        print_text(note, console)


def _blocks(layout: Layout, width: int) -> list[list[int]]:
    """The columns of each table that fits into `width` characters; all begin with the names."""
    widths = [
        max(map(len, (*_short_lines(heading).split("\n"), *_cell_lines(layout, column))))
        for column, heading in enumerate(layout.headings)
    ]
    blocks = [[0]]
    for column in range(1, len(widths)):
        wanted = [*blocks[-1], column]
        if len(blocks[-1]) > 1 and sum(widths[i] + FRAME for i in wanted) + 1 > width:
            blocks.append([0])
        blocks[-1].append(column)
    return blocks


def _cell_lines(layout: Layout, column: int) -> list[str]:
    return [text for line in layout.lines for text in _cell(line[column].text).split("\n")]


def _short_lines(heading: str) -> str:
    """A heading with one word in each line."""
    return heading.replace(" ", "\n")


def _cell(text: str) -> str:
    """A cell with one published figure in each line."""
    return text.replace(", ", "\n")


def _print_resume(console: Console, result: ComparisonResult, why: str) -> None:
    console.print(f"\nNext: {why}:")
    console.print(f"  {resume_command(result.path)}", soft_wrap=True, markup=False)
