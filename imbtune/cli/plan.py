"""`imbtune plan`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from imbtune import api
from imbtune.cli.settings import make_console, parse_settings, parse_share, print_text, with_trust
from imbtune.errors import StudyError
from imbtune.study.hints import space_command
from imbtune.study.request import SearchRequest

if TYPE_CHECKING:  # Ray takes seconds to import
    from imbtune.tuning.forecast.forecast import Forecast
    from imbtune.tuning.forecast.trial_speed import Fleet

# what a rung costs beside the training that a full run has anyway
RUNG_COSTS = {
    "cooldown": "a copy of its model through a cool-down",
    "compressed": "a whole short run, and begins again",
    "prefix": "nothing more",
}
# options of a search that are in the printed command only if they are not the defaults
PRINTED = ("seed", "sampler", "rungs", "calibration", "never_prune", "finals", "final_seeds")


def plan_command(
    space: str,
    *,
    price: float | None,
    settings: list[str] | None,
    gpus_per_trial: str | None,
    trust: bool,
    **options: object,
) -> None:
    """Forecast a search and print it; `options` are those of `imbtune.plan`."""
    fixed, share = parse_settings(settings or []), parse_share(gpus_per_trial)
    forecast = with_trust(
        lambda: api.plan(
            space,
            settings=fixed,
            gpus_per_trial=share,  # type: ignore[arg-type]
            trust=trust,
            **options,  # type: ignore[arg-type]
        ),
        trust,
    )
    console = make_console()
    print_plan(forecast, price, console)
    console.print("\nNext: run this search:")
    planned = as_planned(forecast.request, forecast.fleet)
    console.print(f"  {search_line(planned, options)}", soft_wrap=True)


def print_plan(forecast: Forecast, price: float | None, console: Console) -> None:
    """Print the machines, how many trials reach each rung, and the time and cost.

    Args:
        price: per GPU hour, or per CPU hour without GPUs; None to print no cost.
    """
    request, fleet, speed, plan = (
        forecast.request,
        forecast.fleet,
        forecast.speed,
        forecast.plan,
    )
    trial, per_pass = fleet.trial, speed.speed
    share = f"{trial.cpus} CPU" + (f" + {trial.gpus:g} GPU" if trial.gpus else "")
    print_text(
        f"{request.space.name}: {request.trials} trials on {_count(fleet.units, fleet.unit)}, "
        f"{trial.concurrent} at a time on {share} each\n"
        f"A trial trains {1 / per_pass.pass_seconds:,.0f} images per second, {speed.source} "
        f"({1 / per_pass.high:,.0f} to {1 / per_pass.low:,.0f} by configuration)",
        console,
    )
    print_text("\n".join([*speed.size_lines, *request.space.left_out_lines(), ""]), console)
    rungs = Table(title=f"{request.rungs} rungs", title_justify="left")
    for heading in ("epochs", "trials that reach it", "share"):
        rungs.add_column(heading, justify="right")
    for budget, trials in plan.reached.items():
        rungs.add_row(str(budget), f"{trials:,}", f"{trials / request.trials:.0%}")
    console.print(rungs)
    hours = forecast.machine_hours
    busy = plan.trained_seconds / 3600 * fleet.units_per_trial
    table = Table(show_header=False)
    table.add_row(
        "time",
        f"{duration(plan.seconds)}, of which {duration(plan.final_seconds)} for "
        f"{_count(plan.final_runs, 'run')} of the finals",
    )
    table.add_row(
        f"{fleet.unit} hours", f"{round_to_three(hours)}, {busy / hours:.0%} of them training"
    )
    table.add_row(
        "early stopping",
        f"trains {plan.share:.0%} of the images that full runs of all trials would",
    )
    if price is not None:
        table.add_row("cost", f"{round_to_three(hours * price)} at {price:g} per {fleet.unit} hour")
    console.print(table)
    if note := early_stopping_note(request, plan.share):
        print_text(note, console)


def early_stopping_note(request: SearchRequest, share: float) -> str:
    """Why early stopping costs more than it saves, and what to give instead; else empty.

    Args:
        share: image passes of the trials, divided by those of full runs of all trials.
    """
    if share <= 1:
        return ""
    below = ", ".join(map(str, request.budgets[:-1]))
    why = f"at each rung ({below} epochs) a trial trains {RUNG_COSTS[request.rungs_kind]}"
    return (
        f"Early stopping costs more than it saves here: {why}, which is more than stopping the "
        "weaker ones saves; --rungs none trains every trial to the end, and takes less"
    )


def as_planned(request: SearchRequest, fleet: Fleet) -> SearchRequest:
    """Add options to a request, so that the search gets the resources of the forecast.

    If this machine has fewer CPUs or GPUs than the forecast, the search runs on a cluster
    (`address="auto"`). Otherwise the CPUs and GPUs per trial and the number of trials at a time are
    given, where the defaults on this machine would differ.
    """
    from imbtune.tuning.cluster.connection import local_node
    from imbtune.tuning.cluster.resources import plan_resources

    here, trial = local_node(), fleet.trial
    needed_cpus = trial.cpus if fleet.gpus else fleet.cpus  # with GPUs, one trial must fit
    if fleet.gpus > here.gpus or needed_cpus > here.cpus:
        return replace(request, address="auto")
    share, cpus = request.share, request.cpus_per_trial
    given = plan_resources([here], request.trials, cpus, share, request.max_concurrent)
    if given.gpus != trial.gpus:
        share = trial.gpus
    if given.cpus != trial.cpus:
        cpus = trial.cpus
    given = plan_resources([here], request.trials, cpus, share, request.max_concurrent)
    most = request.max_concurrent if given == trial else trial.concurrent
    return replace(request, gpus_per_trial=share, cpus_per_trial=cpus, max_concurrent=most)


def search_line(request: SearchRequest, options: Mapping[str, object]) -> str:
    """The command of the search, with a name that no study has.

    Args:
        options: of the plan command; those in `PRINTED` are added where they are not the defaults.
    """
    try:
        name = request.free_name()
    except StudyError:  # the storage cannot be reached from here
        name = request.name
    named = {} if name == request.space.name else {"name": name}
    defaults = {field.name: field.default for field in fields(SearchRequest)}
    given = {name: str(options[name]) for name in PRINTED if options[name] != defaults[name]}
    return space_command("search", request, trials=str(request.trials), **named, **given)


def duration(seconds: float) -> str:
    """A time in its one or two largest units: `45 s`, `12 min`, `3 h 12 min`, `2 days 5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    hours, days = minutes / 60, minutes / 1440
    if hours < 1.5:
        return f"{minutes} min"
    if days < 2:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} days {minutes % 1440 // 60} h"


def round_to_three(value: float) -> str:
    """A number with three significant digits, or without decimals from 100 on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"
