"""`imbtune`: the commands, and the one place where expected failures become a line."""

from __future__ import annotations

import atexit
import gc
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from imbtune import __version__
from imbtune.cli.options import (
    AddressOption,
    CalibrationOption,
    ConcurrentOption,
    CpusOption,
    DataOption,
    EpochsOption,
    FinalSeedsOption,
    FinalsOption,
    FixedGpusOption,
    GpusOption,
    NeverPruneOption,
    PackOption,
    RungsOption,
    SamplerOption,
    SeedOption,
    SetOption,
    SkipOption,
    SpaceArgument,
    StorageOption,
    TimeOption,
    TrialsOption,
)
from imbtune.cli.settings import INTERRUPTED
from imbtune.errors import ImbtuneError
from imbtune.runtime import fewer_collections, limit_thread_spinning


class ErrorBoundary(TyperGroup):
    """Expected failures are one line and exit code 2; a bug keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ImbtuneError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:  # while trials run Ray Tune takes it, and all is kept
            print("interrupted", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from error
        except Exception as error:
            if not hasattr(error, "format_message"):  # typer's own: a missing or unknown option
                raise
            print(f"error: {' '.join(error.format_message().split())}", file=sys.stderr)
            raise typer.Exit(2) from error


app = typer.Typer(
    name="imbtune",
    cls=ErrorBoundary,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help, in half of the time
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Hyperparameter search for deep imbalanced classification.",
)


class Topic(StrEnum):
    SPACES = "spaces"
    DATASETS = "datasets"
    METHODS = "methods"
    KNOBS = "knobs"


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"imbtune {__version__}")
        raise typer.Exit


@app.command()
def search(
    ctx: typer.Context,
    space: SpaceArgument,
    trials: TrialsOption = 100,
    name: Annotated[
        str | None, typer.Option(help="The study's name. Default: the space's.")
    ] = None,
    seed: SeedOption = 0,
    epochs: EpochsOption = None,
    gpus_per_trial: GpusOption = None,
    cpus_per_trial: CpusOption = None,
    max_concurrent: ConcurrentOption = None,
    pack: PackOption = False,
    address: AddressOption = None,
    storage: StorageOption = "runs",
    sampler: SamplerOption = "tpe",
    rungs: RungsOption = "cooldown",
    calibration: CalibrationOption = None,
    never_prune: NeverPruneOption = 0.05,
    finals: FinalsOption = None,
    final_seeds: FinalSeedsOption = 3,
    time_budget: TimeOption = None,
    wandb: Annotated[str, typer.Option(help="Weights & Biases: off, offline or online.")] = "off",
    data: DataOption = None,
    skip_corrupt: SkipOption = False,
    settings: SetOption = None,
) -> None:
    """Search a space: presets first, then what the sampler suggests; ASHA stops the weak."""
    from imbtune.cli.search import search_command

    search_command(**ctx.params)


@app.command()
def plan(
    ctx: typer.Context,
    space: SpaceArgument,
    trials: TrialsOption = 100,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="GPUs in all. Default: this machine's.")
    ] = None,
    cpus: Annotated[
        int | None, typer.Option(min=1, help="CPUs in all. Default: this machine's, or enough.")
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(
            help="Take the speed of this study's trials, e.g. runs/NAME; measure nothing."
        ),
    ] = None,
    price: Annotated[
        float | None,
        typer.Option(min=0, help="Of an hour of a GPU; without GPUs, of a CPU. Any currency."),
    ] = None,
    seed: SeedOption = 0,
    epochs: EpochsOption = None,
    gpus_per_trial: FixedGpusOption = None,
    cpus_per_trial: CpusOption = None,
    max_concurrent: ConcurrentOption = None,
    storage: StorageOption = "runs",
    sampler: SamplerOption = "tpe",
    rungs: RungsOption = "cooldown",
    calibration: CalibrationOption = None,
    never_prune: NeverPruneOption = 0.05,
    finals: FinalsOption = None,
    final_seeds: FinalSeedsOption = 3,
    data: DataOption = None,
    skip_corrupt: SkipOption = False,
    settings: SetOption = None,
) -> None:
    """What a search would take: time, GPU hours, cost, and the trials that reach each rung."""
    from imbtune.cli.plan import plan_command

    plan_command(**ctx.params)


@app.command()
def resume(
    ctx: typer.Context,
    study: Annotated[str, typer.Argument(help="The study's folder or URI, e.g. runs/NAME.")],
    gpus_per_trial: GpusOption = None,
    cpus_per_trial: CpusOption = None,
    max_concurrent: ConcurrentOption = None,
    pack: Annotated[
        bool | None,
        typer.Option("--pack/--no-pack", help="As in search. Default: as it began."),
    ] = None,
    address: AddressOption = None,
    time_budget: TimeOption = None,
    data: DataOption = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Another total of trials. Default: as it began.")
    ] = None,
) -> None:
    """Go on with a search or a calibration that was interrupted or killed, from where it was."""
    from imbtune.cli.search import resume_command

    resume_command(**ctx.params)


@app.command()
def calibrate(
    ctx: typer.Context,
    space: SpaceArgument,
    trials: Annotated[
        int, typer.Option(min=8, help="Random configurations; each is trained with two seeds.")
    ] = 16,
    name: Annotated[
        str | None, typer.Option(help="The study's name. Default: the space's, -calibration.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw and of every run.")] = 0,
    epochs: EpochsOption = None,
    gpus_per_trial: GpusOption = None,
    cpus_per_trial: CpusOption = None,
    max_concurrent: ConcurrentOption = None,
    pack: PackOption = False,
    address: AddressOption = None,
    storage: StorageOption = "runs",
    data: DataOption = None,
    skip_corrupt: SkipOption = False,
    settings: SetOption = None,
) -> None:
    """Measure how well each rung predicts the finished model; search --rungs auto follows it."""
    from imbtune.cli.calibrate import calibrate_command

    calibrate_command(**ctx.params)


@app.command()
def train(
    config: Annotated[
        str | None, typer.Argument(help="A configuration: a study's best.yaml, as a path or URI.")
    ] = None,
    trial: Annotated[
        tuple[str, int] | None,
        typer.Option(
            metavar="STUDY N",
            help="Train trial N of a study again as its search did, on the validation set: the "
            "same scores to the last bit on the same machine.",
        ),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="A baseline instead of a file, e.g. mamix_drw; with --space.")
    ] = None,
    space: Annotated[
        str | None, typer.Option(help="The space whose data and fixed settings a preset takes.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs with different seeds.")] = 1,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Instead of the configuration's.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for models and results. Default: beside the configuration."),
    ] = None,
    data: DataOption = None,
    skip_corrupt: SkipOption = False,
    settings: SetOption = None,
) -> None:
    """Train a configuration on all training data, and test it once, at the end."""
    if trial:
        from imbtune.cli.train import repeat_command

        others: dict[str, object] = {
            "a file": config,
            "--preset": preset,
            "--space": space,
            "--set": settings,
            "--epochs": epochs,
            "--out": out,
            "--seeds": seeds > 1,
        }
        repeat_command(*trial, data, refused=[name for name, given in others.items() if given])
        return
    from imbtune.cli.train import train_command

    train_command(
        config,
        settings=settings,
        preset=preset,
        space=space,
        seeds=seeds,
        epochs=epochs,
        out=out,
        data=data,
        skip_corrupt=skip_corrupt,
    )


@app.command()
def show(
    topic: Annotated[Topic, typer.Argument(help="What to list.")],
    space: Annotated[
        str | None, typer.Option(help="A space file of yours, for the parts that it imports.")
    ] = None,
) -> None:
    """List spaces, datasets, methods or knobs, with ranges, defaults and papers."""
    from imbtune.cli.show import show_command

    show_command(topic.value, space)


def main() -> None:
    """The entry point of the installed command."""
    atexit.register(gc.freeze)  # or the interpreter's end looks through it all: 0.8 s with torch
    limit_thread_spinning()
    with fewer_collections():
        app()
