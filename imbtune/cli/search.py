"""`imbtune search`."""

from __future__ import annotations

import functools
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from imbtune.cli.settings import make_console, parse_duration, parse_settings, program
from imbtune.errors import ConfigError, unknown
from imbtune.results.store import join
from imbtune.results.tables import MODES
from imbtune.search.records import SearchOutcome, TrialRecord, summary
from imbtune.search.request import SearchRequest
from imbtune.search.space_file import load_space
from imbtune.training.progress import RUNG_KINDS

SHOWN = 5  # trials of the final table
INTERRUPTED = 130  # the exit code of a program that Ctrl-C ended


@dataclass(frozen=True)
class SearchOptions:
    """The command line as given."""

    space: str
    trials: int
    name: str | None
    seed: int
    epochs: int | None
    gpus_per_trial: float | None
    cpus_per_trial: int | None
    max_concurrent: int | None
    address: str | None
    storage: str
    sampler: str
    rungs: str
    time_budget: str | None
    wandb: str
    data: Path | None
    skip_corrupt: bool
    settings: list[str]


def search_command(options: SearchOptions) -> None:
    """Check the options, search, and print what came out."""
    request = parse_request(options)

    from imbtune.search.tuner import run_search  # Ray takes seconds to import

    outcome = run_search(request, say=functools.partial(print, flush=True))
    print_outcome(request, outcome, make_console())
    if was_interrupted(request, outcome):
        raise typer.Exit(INTERRUPTED)
    if not outcome.winner:
        raise typer.Exit(1)


def parse_request(options: SearchOptions) -> SearchRequest:
    """The options as a checked request."""
    pinned = parse_settings(options.settings)
    if options.epochs is not None:
        pinned["epochs"] = options.epochs
    space = load_space(options.space).pin(pinned)
    name = options.name or space.name
    if not re.fullmatch(r"[\w.-]+", name) or name.startswith("."):
        raise ConfigError(f"--name {name!r}: use letters, digits, '-', '_' and '.'")
    for option, value, choices in (
        ("--rungs", options.rungs, RUNG_KINDS),
        ("--wandb", options.wandb, MODES),
    ):
        if value not in choices:
            raise unknown(f"value for {option}", value, choices)
    if "seed" in pinned:
        raise ConfigError(
            f"--set seed={pinned['seed']}: give --seed, which all trials' seeds follow"
        )
    budget = parse_duration(options.time_budget) if options.time_budget else None
    return SearchRequest(
        space=space,
        trials=options.trials,
        name=name,
        seed=options.seed,
        gpus_per_trial=options.gpus_per_trial,
        cpus_per_trial=options.cpus_per_trial,
        max_concurrent=options.max_concurrent,
        address=options.address,
        storage=options.storage,
        sampler=options.sampler,
        rungs=options.rungs,
        time_budget=budget,
        wandb=options.wandb,
        data=options.data,
        skip_corrupt=options.skip_corrupt,
    )


def print_outcome(request: SearchRequest, outcome: SearchOutcome, console: Console) -> None:
    """The best finished trials, the winner against the best preset, and what to type next."""
    states = [record.state for record in outcome.records]
    counts = ", ".join(
        f"{states.count(state)} {word}"
        for state, word in [
            ("COMPLETE", "finished"),
            ("PRUNED", "stopped early"),
            ("FAIL", "failed"),
            ("STOPPED", "cut off"),
        ]
        if state in states
    )
    done = f"{len(states)} of {request.trials} trials in {outcome.seconds:.0f} s: {counts}"
    console.print(f"\n{'Interrupted after ' if was_interrupted(request, outcome) else ''}{done}")
    if not outcome.winner:
        console.print(f"No trial finished its full budget; {outcome.place} has what they left.")
        return
    console.print(_table(request, outcome))
    console.print(_comparison(request, outcome))
    best = shlex.quote(join(outcome.place, "best.yaml"))
    data = f" --data {shlex.quote(str(request.data))}" if request.data else ""
    data += " --skip-corrupt" if request.skip_corrupt else ""
    console.print("\nNext: train it on all training data and test it once, with fresh seeds:")
    console.print(f"  {program()} train {best} --seeds 5{data}", soft_wrap=True)


def was_interrupted(request: SearchRequest, outcome: SearchOutcome) -> bool:
    """Whether the search ended before its trials did, and not for its time budget."""
    cut_off = any(record.state == "STOPPED" for record in outcome.records)
    return not request.time_budget and (cut_off or len(outcome.records) < request.trials)


def _table(request: SearchRequest, outcome: SearchOutcome) -> Table:
    table = Table(title=f"best finished trials by validation {request.space.objective}")
    for heading in ("trial", "score", "worst class", "lr", "configuration"):
        table.add_column(heading, justify="left" if heading == "configuration" else "right")
    finished = [r for r in outcome.records if r.state == "COMPLETE"]
    ranked = sorted(finished, key=lambda r: -(r.score or 0))
    shown = ranked[:SHOWN]
    if outcome.baseline and outcome.baseline not in shown:
        shown.append(outcome.baseline)
    for record in shown:
        table.add_row(
            str(record.number),
            f"{record.score:.4f}",
            f"{record.figures['worst_class']:.4f}",
            f"{record.settings['optimizer.lr']:.3g}",
            _describe(record),
        )
    return table


def _comparison(request: SearchRequest, outcome: SearchOutcome) -> str:
    winner, baseline = outcome.winner, outcome.baseline
    assert winner and winner.score is not None
    lead = f"\nWinner: trial {winner.number}, {_describe(winner)}: {winner.score:.4f}"
    if not baseline or baseline.score is None:
        why = "no preset finished" if request.space.presets() else "the space holds no preset"
        return f"{lead}; {why} to compare it with."
    if baseline is winner:
        return f"{lead}; no trial beat the presets."
    gain = 100 * (winner.score - baseline.score)
    return (
        f"{lead},\n        {gain:+.2f} points over the best preset, "
        f"'{baseline.preset}' at {baseline.score:.4f} (one run each, on the validation set)."
    )


def _describe(record: TrialRecord) -> str:
    text = summary(record.settings)
    return f"{record.preset} (preset)" if record.preset else text
