"""`imbtune plan`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from imbtune.cli.search import parse_request
from imbtune.cli.settings import make_console
from imbtune.study.hints import space_command
from imbtune.study.request import SearchRequest

if TYPE_CHECKING:
    from imbtune.search.forecast.forecast import Plan
    from imbtune.search.forecast.trial_speed import Fleet, TrialSpeed

# options that decide what a search costs, or which one it is
OWN = ("seed", "sampler", "rungs", "calibration", "rescue", "finals", "final_seeds")


def plan_command(
    *, gpus: int | None, cpus: int | None, study: str | None, price: float | None, **options: Any
) -> None:
    """Check the options, simulate the search, and print what it takes; `options` are a search's."""
    request = parse_request(**options)

    from imbtune.search.forecast.forecast import Costs, plan_search
    from imbtune.search.forecast.trial_speed import find_trial_speed

    fleet, trial_speed = find_trial_speed(request, gpus, cpus, study)
    costs = Costs(request, trial_speed.speed, trial_speed.counts_K, trial_speed.held)
    plan = plan_search(request, costs, fleet.trial.concurrent)
    console = make_console()
    print_plan(request, fleet, trial_speed, plan, price, console)
    console.print("\nNext: this search:")
    console.print(f"  {search_line(as_planned(request, fleet), options)}", soft_wrap=True)


def print_plan(
    request: SearchRequest,
    fleet: Fleet,
    trial_speed: TrialSpeed,
    plan: Plan,
    price: float | None,
    console: Console,
) -> None:
    """What is planned with, how many trials reach each rung, and what it all takes."""
    trial, speed = fleet.trial, trial_speed.speed
    share = f"{trial.cpus} CPU" + (f" + {trial.gpus:g} GPU" if trial.gpus else "")
    console.print(
        f"{request.space.name}: {request.trials} trials on {_count(fleet.units, fleet.unit)}, "
        f"{trial.concurrent} at a time on {share} each\n"
        f"A trial trains {1 / speed.pass_seconds:,.0f} images a second, {trial_speed.source} "
        f"({1 / speed.high:,.0f} to {1 / speed.low:,.0f} by configuration)\n"
    )
    rungs = Table(title=f"{request.rungs} rungs", title_justify="left")
    for heading in ("epochs", "trials that reach it", "of all"):
        rungs.add_column(heading, justify="right")
    for budget, trials in plan.reached.items():
        rungs.add_row(str(budget), f"{trials:,}", f"{trials / request.trials:.0%}")
    console.print(rungs)
    hours = plan.seconds / 3600 * fleet.units
    busy = plan.trained_seconds / 3600 * fleet.units_a_trial
    table = Table(show_header=False)
    table.add_row(
        "time",
        f"{duration(plan.seconds)}, the last {duration(plan.final_seconds)} for "
        f"{_count(plan.final_runs, 'run')} of finals",
    )
    table.add_row(f"{fleet.unit} hours", f"{figure(hours)}, {busy / hours:.0%} of them training")
    table.add_row(
        "early stopping", f"{plan.share:.0%} of the image passes that full runs of all trials take"
    )
    if price is not None:
        table.add_row("cost", f"{figure(hours * price)} at {price:g} per {fleet.unit} hour")
    console.print(table)


def as_planned(request: SearchRequest, fleet: Fleet) -> SearchRequest:
    """The search on what it is planned with: a cluster where this machine has less than that, else
    as many trials at a time and as much for each, where it would be given something else here."""
    from imbtune.search.cluster.connection import local_node
    from imbtune.search.cluster.resources import plan_resources

    here, trial = local_node(), fleet.trial
    cpus_in_all = trial.cpus if fleet.gpus else fleet.cpus  # beside GPUs those of a trial count
    if fleet.gpus > here.gpus or cpus_in_all > here.cpus:
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


def search_line(request: SearchRequest, asked: Mapping[str, Any]) -> str:
    """The command of the search: the request's, with those options `asked` for that its command
    does not have of itself."""
    defaults = {field.name: field.default for field in fields(SearchRequest)}
    given = {name: str(asked[name]) for name in OWN if asked[name] != defaults[name]}
    return space_command("search", request, trials=str(request.trials), **given)


def duration(seconds: float) -> str:
    """In the two largest units that say something: `3 h 12 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    hours, days = minutes / 60, minutes / 1440
    if hours < 1.5:
        return f"{minutes} min"
    if days < 2:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} days {minutes % 1440 // 60} h"


def figure(value: float) -> str:
    """Three digits, or all that come before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"
