"""`imbtune train`."""

from __future__ import annotations

import typer
from rich.table import Table

from imbtune import api
from imbtune.cli.settings import make_console, parse_settings
from imbtune.errors import ConfigError
from imbtune.progress import print_line
from imbtune.retrain import TrainResult
from imbtune.runtime import keep_freed_memory


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
) -> None:
    """Train, test once per seed, and print mean ± standard deviation."""
    keep_freed_memory()
    result = api.train(
        config,
        settings=parse_settings(settings or []),
        preset=preset,
        space=space,
        seeds=seeds,
        epochs=epochs,
        out=out,
        data=data,
        skip_corrupt=skip_corrupt,
    )
    make_console().print(_table(result))
    print(f"Models, configuration and results are in {result.path}")


def repeat_command(study: str, number: int, data: str | None, refused: list[str]) -> None:
    """`imbtune train --trial`: train a trial again, and compare it with the study's record.

    Exits with code 1 where a loss or score differs.

    Args:
        refused: other options that were given, which would change the trial.
    """
    if refused:
        raise ConfigError(
            f"--trial {study} {number} trains the trial exactly as its search did: leave "
            f"{', '.join(refused)} out"
        )

    from imbtune.tuning.reproduce import repeat_trial

    if repeat_trial(study, number, data, print_line):
        print("Every loss and score equals the recorded one, to the last bit.")
        return
    print(
        "The trial differs from the record: was it trained on another machine, with another number "
        "of threads, or with another version of torch?"
    )
    raise typer.Exit(1)


def _table(result: TrainResult) -> Table:
    several = len(result.runs) > 1
    seeds = f"{len(result.runs)} seeds" if several else "one seed"
    table = Table(title=f"test set, last epoch, {seeds}")
    table.add_column("metric")
    table.add_column("mean ± std" if several else "value", justify="right")
    for metric, (mean, std) in result.metrics.items():
        table.add_row(metric, f"{mean:.4f} ± {std:.4f}" if several else f"{mean:.4f}")
    return table
