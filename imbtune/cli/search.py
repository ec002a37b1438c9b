"""`imbtune search`, `imbtune resume` and `imbtune sync`."""

from __future__ import annotations

import typer

from imbtune import api
from imbtune.cli.outcome.summary import print_outcome
from imbtune.cli.settings import (
    make_console,
    parse_duration,
    parse_settings,
    parse_share,
    summary_output,
    with_trust,
)
from imbtune.errors import INTERRUPTED
from imbtune.paths import path_or_uri
from imbtune.progress import print_line
from imbtune.study.outcome import SearchOutcome
from imbtune.study.view import Study


def search_command(
    space: str,
    *,
    settings: list[str] | None,
    gpus_per_trial: str | None,
    time_budget: str | None,
    trial_timeout: str | None,
    trust: bool,
    **options: object,
) -> None:
    """Search, and print the result; `options` are those of `imbtune.search`."""
    fixed, share = parse_settings(settings or []), parse_share(gpus_per_trial)
    budget = parse_duration(time_budget)
    timeout = parse_duration(trial_timeout, "--trial-timeout")
    study = with_trust(
        lambda: api.search(
            space,
            settings=fixed,
            gpus_per_trial=share,
            time_budget=budget,
            trial_timeout=timeout,
            trust=trust,
            **options,  # type: ignore[arg-type]
        ),
        trust,
    )
    assert study.outcome
    with summary_output(options["progress"]):
        finish(study.outcome)


def resume_command(
    study: str,
    *,
    gpus_per_trial: str | None,
    time_budget: str | None,
    trial_timeout: str | None,
    address: str | None,
    data: str | None,
    trust: bool,
    **options: object,
) -> None:
    """Resume a search, a calibration or a comparison, and print the result."""
    from imbtune.cli.calibrate import finish_calibration
    from imbtune.cli.compare import finish_comparison
    from imbtune.comparison.result import ComparisonResult

    share, budget = parse_share(gpus_per_trial), parse_duration(time_budget)
    timeout = parse_duration(trial_timeout, "--trial-timeout")
    ended = with_trust(
        lambda: api.resume(
            study,
            gpus_per_trial=share,
            time_budget=budget,
            trial_timeout=timeout,
            address=address,
            data=data,
            trust=trust,
            **options,  # type: ignore[arg-type]
        ),
        trust,
    )
    with summary_output(options["progress"]):
        if isinstance(ended, Study):
            assert ended.outcome
            finish(ended.outcome)
        elif isinstance(ended, ComparisonResult):
            finish_comparison(ended)
        else:
            finish_calibration(ended)


def sync_command(study: str) -> None:
    """Upload what W&B has kept offline of a study."""
    from imbtune.study.trackers.offline import sync_offline

    sync_offline(path_or_uri("the study", study), print_line)


def finish(outcome: SearchOutcome) -> None:
    """Print how a search ended, and exit with its code."""
    print_outcome(outcome, make_console())
    if outcome.interrupted:
        raise typer.Exit(INTERRUPTED)
    if not outcome.winner:
        raise typer.Exit(1)
