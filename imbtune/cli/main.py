"""`imbtune`: the commands, and the one place where expected failures become a line."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from imbtune import __version__
from imbtune.errors import ImbtuneError


class ErrorBoundary(TyperGroup):
    """Expected failures are one line and exit code 2; a bug keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except ImbtuneError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(2) from error
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
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Hyperparameter search for deep imbalanced classification.",
)


class Topic(StrEnum):
    SPACES = "spaces"
    DATASETS = "datasets"
    METHODS = "methods"
    KNOBS = "knobs"


DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Folder with the data set (its own layout, or Hugging Face Parquet), or a .npz file. "
        "Default: $IMBTUNE_DATA, else download.",
        show_default=False,
    ),
]
SkipOption = Annotated[
    bool, typer.Option("--skip-corrupt", help="Go on without images that cannot be read.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KNOB=VALUE",
        help="Fix a setting, e.g. mix=mamix or data.ratio=50. Repeat.",
    ),
]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        print(f"imbtune {__version__}")
        raise typer.Exit


@app.command()
def search(
    space: Annotated[str, typer.Argument(help="A space's name (imbtune show spaces), or a path.")],
    trials: Annotated[int, typer.Option(min=1, help="Trials to run, presets included.")] = 100,
    name: Annotated[
        str | None, typer.Option(help="The study's name. Default: the space's.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the sampler and of every trial.")] = 0,
    epochs: Annotated[int | None, typer.Option(min=1, help="Full budget of a trial.")] = None,
    gpus_per_trial: Annotated[
        float | None, typer.Option(help="1/n or whole. Default: 0.25 where there are GPUs.")
    ] = None,
    cpus_per_trial: Annotated[
        int | None, typer.Option(help="Whole CPUs. Default: an even share.")
    ] = None,
    max_concurrent: Annotated[
        int | None, typer.Option(min=1, help="Trials at a time. Default: as many as fit.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="A running Ray cluster: auto, or HEAD:6379.")
    ] = None,
    storage: Annotated[
        str, typer.Option(help="Where studies go: a folder, s3://… or gs://….")
    ] = "runs",
    sampler: Annotated[str, typer.Option(help="tpe, random or qmc.")] = "tpe",
    rungs: Annotated[
        str, typer.Option(help="Scores below the full budget: cooldown, compressed or prefix.")
    ] = "cooldown",
    time_budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Stop after 90s, 30m or 2h of trials.")
    ] = None,
    wandb: Annotated[str, typer.Option(help="Weights & Biases: off, offline or online.")] = "off",
    data: DataOption = None,
    skip_corrupt: SkipOption = False,
    settings: SetOption = None,
) -> None:
    """Search a space: presets first, then what the sampler suggests; ASHA stops the weak."""
    from imbtune.cli.search import SearchOptions, search_command

    search_command(
        SearchOptions(
            space=space,
            trials=trials,
            name=name,
            seed=seed,
            epochs=epochs,
            gpus_per_trial=gpus_per_trial,
            cpus_per_trial=cpus_per_trial,
            max_concurrent=max_concurrent,
            address=address,
            storage=storage,
            sampler=sampler,
            rungs=rungs,
            time_budget=time_budget,
            wandb=wandb,
            data=data,
            skip_corrupt=skip_corrupt,
            settings=settings or [],
        )
    )


@app.command()
def train(
    config: Annotated[
        str | None, typer.Argument(help="A configuration: a study's best.yaml, as a path or URI.")
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
    from imbtune.cli.train import TrainOptions, train_command

    train_command(
        TrainOptions(
            config=config,
            preset=preset,
            space=space,
            seeds=seeds,
            epochs=epochs,
            out=out,
            data=data,
            skip_corrupt=skip_corrupt,
            settings=settings or [],
        )
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
    app()
