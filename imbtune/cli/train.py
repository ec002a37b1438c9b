"""`imbtune train`."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from imbtune import api
from imbtune.cli.settings import make_console, parse_settings
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
    out: Path | None,
    data: Path | None,
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


def _table(result: TrainResult) -> Table:
    several = len(result.runs) > 1
    seeds = f"{len(result.runs)} seeds" if several else "one seed"
    table = Table(title=f"test set, last epoch, {seeds}")
    table.add_column("metric")
    table.add_column("mean ± std" if several else "value", justify="right")
    for metric, (mean, std) in result.metrics.items():
        table.add_row(metric, f"{mean:.4f} ± {std:.4f}" if several else f"{mean:.4f}")
    return table
