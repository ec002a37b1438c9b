"""`imbtune train`."""

from __future__ import annotations

import math
import shlex

import typer
from rich.console import Console
from rich.table import Table

from imbtune import api
from imbtune.cli.settings import (
    make_console,
    parse_settings,
    print_text,
    summary_output,
    with_trust,
)
from imbtune.errors import ConfigError, printable
from imbtune.final_training.retrain import TrainResult
from imbtune.metrics.metric_registry import group_lines
from imbtune.metrics.number_text import as_text
from imbtune.progress import print_line
from imbtune.report.next_steps import model_steps
from imbtune.runtime import keep_freed_memory
from imbtune.study.hints import program


def train_command(
    config: str | None,
    *,
    settings: list[str] | None,
    preset: str | None,
    space: str | None,
    seeds: int,
    epochs: int | None,
    out: str | None,
    data: str | None,
    skip_corrupt: bool,
    objective: list[str] | None,
    baselines: bool,
    ema: float | None,
    calibrate: float | None,
    ensemble: bool,
    max_concurrent: int | None,
    workers: int | None,
    address: str | None,
    progress: str,
    trust: bool,
) -> None:
    """Train, test once per seed, and print mean ± standard deviation."""
    keep_freed_memory()
    replaced = parse_settings(settings or [])
    result = with_trust(
        lambda: api.train(
            config,
            settings=replaced,
            preset=preset,
            space=space,
            seeds=seeds,
            epochs=epochs,
            out=out,
            data=data,
            skip_corrupt=skip_corrupt,
            objective=objective,
            baselines=baselines,
            ema=ema,
            calibrate=calibrate,
            ensemble=ensemble,
            max_concurrent=max_concurrent,
            workers=workers,
            address=address,
            progress=progress,
            trust=trust,
        ),
        trust,
    )
    with summary_output(progress):
        print_result(result, make_console())


def repeat_command(
    study: str, number: int, data: str | None, trust: bool, refused: list[str]
) -> None:
    """`imbtune train --trial`: train a trial again, and compare it with the study's record.

    Exits with code 1 where a loss or score differs.

    Args:
        trust: whether modules of the study may run that this user has not run before.
        refused: other options that were given, which would change the trial.
    """
    if refused:
        raise ConfigError(
            f"--trial {study} {number} trains the trial exactly as its search did: leave "
            f"{', '.join(refused)} out"
        )

    from imbtune.tuning.reproduce import repeat_trial

    if with_trust(lambda: repeat_trial(study, number, data, print_line), trust):
        print("Every loss and score equals the recorded one, to the last bit.")
        return
    print(
        "The trial differs from the record: was it trained on another machine, with another number "
        "of threads, or with another version of torch?"
    )
    raise typer.Exit(1)


def print_result(result: TrainResult, console: Console) -> None:
    """Print the metrics on the test images, a column for each baseline, and what to do next."""
    several = len(result.runs) > 1
    seeds = f"{len(result.runs)} seeds" if several else "one seed"
    table = Table(title=f"test set, last epoch, {seeds}")
    table.add_column("metric")
    value = "mean ± std" if several else "value"
    own = "this model" if result.baselines else value  # a preset may have the folder's name
    columns = [(own, result.metrics)]
    parts = result.runs[0].without
    columns += [(f"without {part}", result.metrics_without(part)) for part in parts]
    if result.ensemble:
        defined = {k: v for k, v in result.ensemble.items() if v is not None}
        columns.append(("ensemble", {name: (mean, math.nan) for name, mean in defined.items()}))
    columns += [(name, other.metrics) for name, other in result.baselines.items()]
    for heading, _ in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for metric in result.metrics:
        table.add_row(
            printable(result.titles.get(metric, metric)),
            *(_cell(*metrics[metric]) for _, metrics in columns),
        )
    console.print(table)
    for line in result.undefined:
        print_text(printable(line), console)
    if groups := group_lines(result.metrics):
        print_text("\n".join(groups), console)
    for warning in _worse_on_test(result):
        print_text(warning, console)
    if result.baselines:
        shared = ["--ema"] * ("averaging" in parts) + ["--calibrate"] * ("temperature" in parts)
        also = f", also with {' and '.join(shared)}" if shared else ""
        print_text(
            "this model: the trained configuration; others: presets, with methods of "
            f"their own, and the same seeds, data and epochs{also}",
            console,
        )
    first, *others = (run.seed for run in result.runs)
    beside = f"; in it, those of seeds {', '.join(map(str, others))}" if others[1:] else ""
    beside = beside or (f"; in it, that of seed {others[0]}" if others else "")
    print_text(f"The model of seed {first} is in {result.path}{beside}", console)
    for name, other in result.baselines.items():
        print(f"  of {name}: {other.path}")
    model = str(result.path)
    print("Next:")
    for words, _ in model_steps(model):
        print(f"  {shlex.join([program(), *words])}")


def _worse_on_test(result: TrainResult) -> list[str]:
    """A warning for each temperature that made the log-loss of the test images worse."""
    found: list[tuple[str, float | None, float | None]] = []
    if "temperature" in result.runs[0].without:
        one, _ = result.metrics_without("temperature")["log_loss"]
        found.append(("the temperature", one, result.metrics["log_loss"][0]))
    if result.ensemble_without:
        before, after = result.ensemble_without["log_loss"], result.ensemble["log_loss"]
        found.append(("the ensemble's own temperature", before, after))
    return [
        f"Warning: {which} made the log-loss of the test images worse: {after:.4f}, and "
        f"{before:.4f} without it. The images that it was fitted on may be too few, or the test "
        "images have other class shares"
        for which, before, after in found
        if before is not None and after is not None and after > before
    ]


def _cell(mean: float, std: float) -> str:
    return as_text(mean) if math.isnan(std) else f"{as_text(mean)} ± {std:.4f}"
