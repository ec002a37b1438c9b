"""`imbtune search`."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

import typer

from imbtune.cli.search_summary import print_outcome
from imbtune.cli.settings import make_console, parse_duration, parse_settings, parse_share
from imbtune.errors import ConfigError, unknown
from imbtune.space.space_file import load_space
from imbtune.study.files import read_study
from imbtune.study.records import SearchOutcome
from imbtune.study.request import AUTO, CALIBRATION, SearchRequest
from imbtune.study.tables.parquet import MODES
from imbtune.training.phases import RUNG_KINDS

RUNGS = (*RUNG_KINDS, "none", AUTO)
INTERRUPTED = 130  # the exit code of a program that Ctrl-C ended


def search_command(**options: Any) -> None:
    """Check the options, search, and print what came out."""
    request = parse_request(**options)

    from imbtune.search.run_search import run_search  # Ray takes seconds to import

    say = functools.partial(print, flush=True)
    outcome = run_search(request, say)
    finish(request, outcome)


def resume_command(study: str, time_budget: str | None, **options: Any) -> None:
    """Go on with a study, and print what came out."""
    check_not_empty(options | {"time_budget": time_budget})
    changes = {name: value for name, value in options.items() if value is not None}
    if "gpus_per_trial" in changes:
        changes["gpus_per_trial"] = parse_share(changes["gpus_per_trial"])
    budget = parse_duration(time_budget) if time_budget else None
    if read_study(study)[0].purpose == CALIBRATION:
        for option, value in (("--time-budget", time_budget), ("--trials", options["trials"])):
            if value:
                raise ConfigError(f"{option} {value}: {study} is a calibration: leave it out")
        from imbtune.cli.calibrate import resume_calibration_command

        resume_calibration_command(study, changes)
        return

    from imbtune.search.run_search import resume_search

    say = functools.partial(print, flush=True)
    request, outcome = resume_search(study, {**changes, "time_budget": budget}, say)
    finish(request, outcome)


def finish(request: SearchRequest, outcome: SearchOutcome) -> None:
    """Print what came out, and exit with its code."""
    print_outcome(request, outcome, make_console())
    if outcome.cut_off:
        raise typer.Exit(INTERRUPTED)
    if not outcome.winner:
        raise typer.Exit(1)


def check_not_empty(options: Mapping[str, object]) -> None:
    """ConfigError for an option with an empty text, which a shell makes of an unset variable."""
    for name, value in options.items():
        if value == "":
            option = f"--{name.replace('_', '-')}"
            raise ConfigError(f"{option} '': it is empty: give a value, or leave it out")


def parse_request(
    *,
    space: str,
    name: str | None = None,
    epochs: int | None = None,
    time_budget: str | None = None,
    settings: list[str] | None = None,
    gpus_per_trial: str | None = None,
    calibration: str | None = None,
    **options: Any,
) -> SearchRequest:
    """The options as a checked request; those that are not named here are its fields."""
    texts = {"name": name, "time_budget": time_budget, "gpus_per_trial": gpus_per_trial}
    check_not_empty(texts | {"calibration": calibration} | options)
    pinned = parse_settings(settings or [])
    if epochs is not None:
        pinned["epochs"] = epochs
    loaded = load_space(space).pin(pinned)
    named = name or loaded.name
    if not re.fullmatch(r"[\w.-]+", named) or named.startswith("."):
        raise ConfigError(f"--name {named!r}: use letters, digits, '-', '_' and '.'")
    if "seed" in pinned:
        raise ConfigError(
            f"--set seed={pinned['seed']}: give --seed, which all trials' seeds follow"
        )
    budget = parse_duration(time_budget) if time_budget else None
    share = parse_share(gpus_per_trial) if gpus_per_trial else None
    given = {"typed": space, "time_budget": budget, "gpus_per_trial": share, **options}
    request = SearchRequest(loaded, name=named, **given)
    for option, value, choices in (
        ("--rungs", request.rungs, RUNGS),
        ("--wandb", request.wandb, MODES),
    ):
        if value not in choices:
            raise unknown(f"value for {option}", value, choices)
    if request.rungs == AUTO:
        from imbtune.search.calibration.follow import with_calibration

        request = with_calibration(request, calibration)
    elif calibration:
        raise ConfigError(f"--calibration {calibration} goes with --rungs auto")
    if loaded.late_variants > 1 and request.rungs == "prefix":
        raise ConfigError(
            f"--rungs prefix cannot tell late_variants: {loaded.late_variants} apart, which differ "
            "in the cool-down alone: give cooldown, or leave late_variants out of the space"
        )
    return request
