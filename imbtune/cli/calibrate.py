"""`imbtune calibrate`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

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
from imbtune.study.hints import resume_command, space_command
from imbtune.study.request import AUTO, CALIBRATION_SUFFIX, SearchRequest

if TYPE_CHECKING:  # Ray takes seconds to import
    from imbtune.study.results.calibration_result import Calibration
    from imbtune.tuning.calibration.run_calibration import CalibrationOutcome


def calibrate_command(
    space: str,
    *,
    settings: list[str] | None,
    gpus_per_trial: str | None,
    trial_timeout: str | None,
    trust: bool,
    **options: object,
) -> None:
    """Calibrate, and print how well the rungs predict; `options` are those of the API."""
    fixed, share = parse_settings(settings or []), parse_share(gpus_per_trial)
    timeout = parse_duration(trial_timeout, "--trial-timeout")
    outcome = with_trust(
        lambda: api.calibrate(
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
        finish_calibration(outcome)


def finish_calibration(outcome: CalibrationOutcome) -> None:
    """Print how a calibration ended, and exit with its code."""
    console = make_console()
    if outcome.found:
        print_calibration(outcome.request, outcome.found, console)
        return
    console.print(f"\nInterrupted after {outcome.done} of {outcome.runs} runs")
    console.print("\nNext: to resume it and train the runs that are left:")
    console.print(f"  {resume_command(outcome.path)}", soft_wrap=True)
    raise typer.Exit(INTERRUPTED)


def print_calibration(request: SearchRequest, found: Calibration, console: Console) -> None:
    """The table of the rungs, the noise floor, the advice, and the next command."""
    from imbtune.study.results.calibration_result import HEADINGS, cautions, notes_of, table_of

    table = Table(title=f"{found.trials} trials of {found.full_budget} epochs, two seeds each")
    for heading in HEADINGS:
        lines = heading.replace("third ", "third\n").replace("of a", "of\na")
        table.add_column(lines, justify="left" if heading == "rungs" else "right", no_wrap=True)
    rows = table_of(found)
    for row in rows[:-2]:
        table.add_row(*row)
    table.add_section()
    for row in rows[-2:]:
        table.add_row(*row)
    console.print(table)
    for note in notes_of(found, request.trials, request.space.objective):
        print_text(note, console)
    print_text(f"Advice: {found.advice.text}.", console)
    for caution in cautions(found):
        print_text(f"Caution: {caution}.", console)
    usual = request.space.name + CALIBRATION_SUFFIX
    named = None if request.name == usual else request.name
    name = replace(request, name=request.space.name).free_name()
    command = space_command(
        "search",
        request,
        name=None if name == request.space.name else name,
        rungs=AUTO,
        calibration=named,
    )
    console.print("\nNext: search with the recommended rungs:")
    console.print(f"  {command}", soft_wrap=True)
