"""The options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
SpaceArgument = Annotated[
    str, typer.Argument(help="A space's name (imbtune show spaces), or a path.")
]
EpochsOption = Annotated[int | None, typer.Option(min=1, help="Full budget of a trial.")]
GpusOption = Annotated[
    str | None,
    typer.Option(
        metavar="SHARE",
        help="1/n, whole, or auto: measured first. Default: 0.25 where there are GPUs.",
    ),
]
FixedGpusOption = Annotated[
    str | None,
    typer.Option(metavar="SHARE", help="1/n or whole. Default: 0.25 where there are GPUs."),
]
CpusOption = Annotated[int | None, typer.Option(help="Whole CPUs. Default: an even share.")]
ConcurrentOption = Annotated[
    int | None, typer.Option(min=1, help="Trials at a time. Default: as many as fit.")
]
PackOption = Annotated[
    bool,
    typer.Option(
        "--pack/--no-pack",
        hidden=True,  # experimental: not measured on a GPU yet
        help="Train the trials of a GPU in one process, each in a CUDA stream of its own.",
    ),
]
AddressOption = Annotated[
    str | None, typer.Option(help="A running Ray cluster: auto, or HEAD:6379.")
]
StorageOption = Annotated[str, typer.Option(help="Where studies go: a folder, s3://… or gs://….")]
TimeOption = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Stop after 90s, 30m or 2h of trials; finals come on top."),
]
TrialsOption = Annotated[int, typer.Option(min=1, help="Trials to run, presets included.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Of the sampler and of every trial.")]
SamplerOption = Annotated[str, typer.Option(help="tpe, random, gp, cmaes or qmc.")]
RungsOption = Annotated[
    str,
    typer.Option(
        help="Scores below the full budget: cooldown, compressed, prefix, none, or auto: what "
        "imbtune calibrate found."
    ),
]
CalibrationOption = Annotated[
    str | None,
    typer.Option(
        help="The calibration of --rungs auto: a study's name, or its folder or URI. "
        "Default: the space's, -calibration."
    ),
]
NeverPruneOption = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="Share of the trials to be stopped that run to the end, to measure what stopping "
        "costs.",
    ),
]
FinalsOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Train so many of the best trials, and the best preset, again with fresh seeds. "
        "Default: 5, or a tenth of the trials if that is less.",
    ),
]
FinalSeedsOption = Annotated[int, typer.Option(min=1, help="Fresh seeds of each finalist.")]
