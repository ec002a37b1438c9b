"""`imbtune calibrate`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

from imbtune.cli.search import INTERRUPTED, parse_request
from imbtune.cli.settings import make_console
from imbtune.search.calibration.rung_quality import SUFFIX, Calibration, cautions, figure
from imbtune.study.hints import resume_command, space_command
from imbtune.study.request import AUTO, SearchRequest

if TYPE_CHECKING:  # Ray takes seconds to import
    from imbtune.search.calibration.run_calibration import CalibrationOutcome


def calibrate_command(name: str | None, **options: Any) -> None:
    """Calibrate, and print what the rungs say."""
    request = parse_request(name=name, **options)
    request = replace(request, name=name or request.space.name + SUFFIX)

    from imbtune.search.calibration.run_calibration import (
        run_calibration,  # Ray takes seconds to import
    )

    say = functools.partial(print, flush=True)
    finish_calibration(*run_calibration(request, say))


def resume_calibration_command(study: str, changes: Mapping[str, Any]) -> None:
    """Go on with a calibration, and print what the rungs say."""
    from imbtune.search.calibration.run_calibration import resume_calibration

    say = functools.partial(print, flush=True)
    finish_calibration(*resume_calibration(study, changes, say))


def finish_calibration(request: SearchRequest, outcome: CalibrationOutcome) -> None:
    """Print what came out, and exit with its code."""
    console = make_console()
    if outcome.found:
        print_calibration(request, outcome.found, console)
        return
    console.print(f"\nInterrupted after {outcome.done} of {outcome.runs} runs")
    console.print("\nNext: go on with what is left:")
    console.print(f"  {resume_command(outcome.path)}", soft_wrap=True)
    raise typer.Exit(INTERRUPTED)


def print_calibration(request: SearchRequest, found: Calibration, console: Console) -> None:
    """The table of the rungs, the noise floor, the advice, and what to type next."""
    table = Table(title=f"{found.trials} trials of {found.full_budget} epochs, two seeds each")
    for heading in ("rungs", "epochs", "Spearman's ρ", "90 % interval", "best third found", "cost"):
        table.add_column(heading, justify="left" if heading == "rungs" else "right")
    for report in found.reports:
        table.add_row(
            report.kind,
            str(report.budget),
            figure(report.rho),
            f"{figure(report.low)} to {figure(report.high)}",
            f"{report.recall:.0%}",
            f"{report.cost:.2f} runs",
        )
    table.add_section()
    floor = f"{figure(found.floor_low)} to {figure(found.floor_high)}"
    table.add_row("(noise floor)", str(found.full_budget), figure(found.floor), floor, "", "")
    table.add_row("(by chance)", "", "0.00", "", f"{found.chance:.0%}", "")
    console.print(table)
    if failed := request.trials - found.trials:
        console.print(f"{failed} of {request.trials} trials failed and are left out.")
    console.print(
        f"A run's score varies by ±{100 * found.spread:.2f} points from seed to seed.\n"
        f"Advice: {found.advice.text}.",
        soft_wrap=True,
    )
    for caution in cautions(found):
        console.print(f"Caution: {caution}.", soft_wrap=True)
    named = None if request.name == request.space.name + SUFFIX else request.name
    command = space_command("search", request, rungs=AUTO, calibration=named)
    console.print("\nNext: a search that follows it:")
    console.print(f"  {command}", soft_wrap=True)
